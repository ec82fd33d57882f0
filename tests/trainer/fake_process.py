"""A process that follows the run folder's contract without training: `python fake_process.py RUN_FOLDER`.

Its recipe says what it does: {"steps", "pause" (seconds a step), "checkpoint_every", "end" (succeed, fail, exit, hang),
"die_once" (a file; the first process to come to half of its steps without it makes it and is killed), "pids" (a file
that gets its process id and that of a child), "stubborn" (no answer to SIGTERM), "output", "result", "error"}.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

run = Path(sys.argv[1])
spec = json.loads((run / "spec.json").read_text())
recipe = spec["recipe"]
asked_to_stop = False


def on_term(*_: object) -> None:
    """Note the signal."""
    global asked_to_stop  # noqa: PLW0603  # a script
    asked_to_stop = not recipe.get("stubborn")


def emit(**event: object) -> None:
    """Append an event."""
    with (run / "events.jsonl").open("a") as file:
        file.write(json.dumps(event) + "\n")


def checkpoint(step: int) -> None:
    """Write a state of 1,000 bytes."""
    content = f"{step:1000d}".encode()
    path = run / f"checkpoints/step-{step:08d}.pt"
    path.write_bytes(content)
    manifest = {"step": step, "sha256": hashlib.sha256(content).hexdigest(), "num_bytes": len(content)}
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(manifest))
    partial.rename(path.with_suffix(".json"))


def restored_step() -> int:
    """Step of the newest state in the folder."""
    for manifest in sorted((run / "checkpoints").glob("*.json"), reverse=True):
        content = manifest.with_suffix(".pt").read_bytes()
        assert hashlib.sha256(content).hexdigest() == json.loads(manifest.read_text())["sha256"]
        return int(content)
    return 0


def work() -> None:
    """Step by step, from the restored state."""
    first, steps = restored_step(), recipe.get("steps", 3)
    emit(type="stage", stage="training", first_step=first, arguments=sys.argv[2:])
    for step in range(first + 1, steps + 1):
        time.sleep(recipe.get("pause", 0))
        emit(type="metrics", step=step, steps=steps, loss=1 / step)
        if asked_to_stop or step % recipe.get("checkpoint_every", steps + 1) == 0:
            checkpoint(step)
        if asked_to_stop:
            sys.exit(75)
        marker = Path(recipe.get("die_once", os.devnull))
        if step >= steps // 2 and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)


def end() -> None:
    """As the recipe says."""
    print("the last line")  # noqa: T201  # it goes to the log
    kind = recipe.get("end", "succeed")
    for name, content in recipe.get("output", {}).items():
        (run / "output" / name).write_text(content)
    if kind == "succeed":
        (run / "result.json").write_text(json.dumps(recipe.get("result", {"answer": 42})))
    elif kind == "fail":
        (run / "error.json").write_text(json.dumps(recipe["error"]))
        sys.exit(1)
    elif kind == "exit":
        sys.exit(3)
    while kind == "hang":
        time.sleep(0.05)
        if asked_to_stop:
            sys.exit(75)


signal.signal(signal.SIGTERM, on_term)
if "pids" in recipe:
    child = subprocess.Popen(["sleep", "60"])
    pids = Path(recipe["pids"])
    pids.with_suffix(".partial").write_text(f"{os.getpid()} {child.pid}")
    pids.with_suffix(".partial").rename(pids)
work()
end()

"""A process that follows the run folder's contract without training: `python fake_process.py RUN_FOLDER`.

Its recipe says what it does: {"steps", "pause" (seconds a step), "checkpoint_every", "end" (succeed, fail, exit, hang),
"die_once" (a file; the first process to come to half of its steps without it makes it and is killed), "pids" (a file
that gets its process id and that of a child), "stubborn" (no answer to SIGTERM), "output", "result", "error",
"die_rank" (which of several ranks is killed; default 0; the others notice), "stop_file" (by which ranks agree to stop),
"codes" ({rank: exit code}, at half of the steps), "written" (a file: made with the first checkpoint, and who is to be
killed waits for it)}.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

WORLD = ("WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "GLOO_SOCKET_IFNAME", "OMP_NUM_THREADS")

run = Path(sys.argv[1])
spec = json.loads((run / "spec.json").read_text())
recipe = spec["recipe"]
rank = int(os.environ.get("RANK", "0"))
signalled = False


def on_term(*_: object) -> None:
    """Note the signal."""
    global signalled  # noqa: PLW0603  # a script
    signalled = not recipe.get("stubborn")
    if signalled and "stop_file" in recipe:
        Path(recipe["stop_file"]).touch()


def asked_to_stop() -> bool:
    """Whether this rank, or one of those with the same stop file, got the signal."""
    return signalled or Path(recipe.get("stop_file", os.devnull + "/none")).exists()


def emit(**event: object) -> None:
    """Append an event, as the first rank."""
    if rank:
        return
    with (run / "events.jsonl").open("a") as file:
        file.write(json.dumps(event) + "\n")


def checkpoint(step: int) -> None:
    """Write a state of 1,000 bytes, as the first rank."""
    if rank:
        return
    content = f"{step:1000d}".encode()
    path = run / f"checkpoints/step-{step:08d}.pt"
    path.write_bytes(content)
    manifest = {"step": step, "sha256": hashlib.sha256(content).hexdigest(), "num_bytes": len(content)}
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(manifest))
    partial.rename(path.with_suffix(".json"))
    if "written" in recipe:
        Path(recipe["written"]).touch()


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
    marker = Path(recipe.get("die_once", os.devnull))
    had_died = marker.exists()
    world = {name: os.environ.get(name) for name in WORLD}
    emit(type="stage", stage="training", first_step=first, arguments=sys.argv[2:], world=world)
    for step in range(first + 1, steps + 1):
        time.sleep(recipe.get("pause", 0))
        emit(type="metrics", step=step, steps=steps, loss=1 / step)
        if marker.exists() and not had_died and rank != recipe.get("die_rank", 0):
            sys.exit(76)
        stop = asked_to_stop()
        if stop or step % recipe.get("checkpoint_every", steps + 1) == 0:
            checkpoint(step)
        if stop:
            sys.exit(75)
        if step >= steps // 2 and str(rank) in recipe.get("codes", {}):
            sys.exit(recipe["codes"][str(rank)])
        if rank == recipe.get("die_rank", 0) and step >= steps // 2 and not marker.exists():
            while "written" in recipe and not Path(recipe["written"]).exists():
                time.sleep(0.01)
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)


def end() -> None:
    """As the recipe says."""
    print("the last line")  # noqa: T201  # it goes to the log
    kind = recipe.get("end", "succeed")
    for name, content in recipe.get("output", {}).items():
        (run / "output" / name).write_text(content)
    if kind == "succeed" and not rank:
        (run / "result.json").write_text(json.dumps(recipe.get("result", {"answer": 42})))
    elif kind == "fail":
        (run / "error.json").write_text(json.dumps(recipe["error"]))
        sys.exit(1)
    elif kind == "exit":
        sys.exit(3)
    while kind == "hang":
        time.sleep(0.05)
        if asked_to_stop():
            sys.exit(75)


signal.signal(signal.SIGTERM, on_term)
if "pids" in recipe:
    child = subprocess.Popen(["sleep", "60"])
    pids = Path(recipe["pids"]).with_suffix(f".{rank}" if rank else "")
    partial = pids.with_name(pids.name + ".partial")
    partial.write_text(f"{os.getpid()} {child.pid}")
    partial.rename(pids)
work()
end()

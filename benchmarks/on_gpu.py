r"""The checks that need a GPU, one after the other, on a machine where nothing can be installed.

    python benchmarks/on_gpu.py correctness loss --out results --wheels wheels
    python benchmarks/on_gpu.py throughput --out results --wheels wheels -- --only resnet50_224 --rounds 3
    python benchmarks/on_gpu.py cifar10 --out results --wheels wheels --data cifar10.tar.gz -- --minutes 4

    correctness   the tests marked `gpu`
    loss          benchmarks/loss_memory.py
    throughput    benchmarks/train_throughput.py
    cifar10       benchmarks/cifar10.py; its work stays in --work, so the same call again goes on where it ended

Each stage has --limit seconds, then is asked to end; the next one runs whatever came of it. What a stage prints goes to
OUT/STAGE.log, its last line of JSON to OUT/STAGE.json. What follows `--` is given to the stage, if it is one.
Exits with 1 unless all stages succeeded.

The machine has Python 3.12 and PyTorch, torchvision, numpy, Pillow and ONNX Runtime. What else is needed comes along in
--wheels, 21 MB that this fetches wherever there is a network:

    pip download -d wheels --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
        --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 --platform manylinux_2_28_x86_64 \
        pydantic pydantic-core annotated-types typing-inspection typing-extensions pebble zstandard \
        rich markdown-it-py mdurl pygments pytest pluggy iniconfig packaging lightly==1.6.0 lightning-utilities tqdm \
        onnx onnxscript onnx-ir ml-dtypes protobuf

They are unpacked into a folder that PYTHONPATH names, and go before what the machine has.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from zipfile import ZipFile

ROOT = Path(__file__).resolve().parent.parent
STAGES = ("correctness", "loss", "throughput", "cifar10")
NEEDED = (
    *("torch", "torchvision", "numpy", "PIL", "onnxruntime", "onnx", "onnxscript"),
    *("pydantic", "pebble", "zstandard", "rich", "pytest", "lightly", "lightning_utilities", "tqdm"),
)
END_SECONDS = 20.0  # to write a checkpoint
NOT_ENDED = 124  # as timeout(1)
ENVIRONMENT = {"PYTHONUNBUFFERED": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}


def commands(stage: str, options: argparse.Namespace, extra: list[str]) -> list[list[str]]:
    """What a stage runs."""
    if stage == "correctness":
        has_gpu = [sys.executable, "-c", "import torch; torch.cuda.init()"]  # without one the tests would be skipped
        return [has_gpu, *(_pytest(folder, files, extra) for folder, files in gpu_tests().items())]
    script = {"loss": "loss_memory", "throughput": "train_throughput", "cifar10": "cifar10"}[stage]
    command = [sys.executable, str(ROOT / "benchmarks" / f"{script}.py"), *extra]
    return [[*command, "--data", str(options.data), "--work", str(options.work)] if stage == "cifar10" else command]


def gpu_tests() -> dict[Path, list[Path]]:
    """The files with tests marked `gpu`, by the package they test. Others aren't collected: they import much more."""
    files: dict[Path, list[Path]] = {}
    for file in sorted((ROOT / "tests").rglob("test_*.py")):
        if "mark.gpu" in file.read_text():
            files.setdefault(ROOT / "tests" / file.relative_to(ROOT / "tests").parts[0], []).append(file)
    return files


def _pytest(folder: Path, files: list[Path], extra: list[str]) -> list[str]:
    # The conftest.py of all tests starts databases; plugins of other packages warn, and a warning is an error.
    plain = ["--confcutdir", str(folder), "-p", "no:cacheprovider", "--continue-on-collection-errors"]
    return [sys.executable, "-m", "pytest", "-m", "gpu", *plain, *extra, *map(str, files)]


def run(stage: str, options: argparse.Namespace, extra: list[str]) -> dict[str, object]:
    """Run a stage; its name, exit status and seconds."""
    started = time.monotonic()
    path: Path = options.out / f"{stage}.log"
    print(f"== {stage}: {path}", flush=True)
    with path.open("w") as log:
        statuses = [
            _run(command, log.fileno(), started + options.limit - time.monotonic())
            for command in commands(stage, options, extra)
        ]
    lines = path.read_text(errors="replace").splitlines()
    print("\n".join(lines[-options.tail :]), flush=True)
    if answers := [line for line in lines if line.startswith("{")]:
        (options.out / f"{stage}.json").write_text(answers[-1] + "\n")
    seconds = round(time.monotonic() - started, 1)
    return {"stage": stage, "status": next(filter(None, statuses), 0), "seconds": seconds}


def _run(command: list[str], log: int, seconds: float) -> int:
    """The command's exit status; NOT_ENDED if it had to be ended."""
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | ENVIRONMENT, stdout=log, stderr=log, process_group=0)
    try:
        return process.wait(max(1.0, seconds))
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(END_SECONDS)
        return NOT_ENDED
    finally:
        _kill_group(process)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def use_wheels(wheels: Path, folder: Path) -> None:
    """Unpack all into `folder`, and let this process and those it starts import from there."""
    for wheel in sorted(wheels.glob("*.whl")):
        with ZipFile(wheel) as archive:
            archive.extractall(folder)
    sys.path.insert(0, str(folder))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))


def main() -> int:
    """Run the stages; the exit status."""
    arguments, extra = sys.argv[1:], list[str]()
    if "--" in arguments:
        position = arguments.index("--")
        arguments, extra = arguments[:position], arguments[position + 1 :]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="+", choices=STAGES)
    parser.add_argument("--out", type=Path, required=True, help="folder for logs and JSON")
    parser.add_argument("--wheels", type=Path, help="folder of wheels of packages that this Python lacks")
    parser.add_argument("--limit", type=float, default=540.0, help="seconds of a stage")
    parser.add_argument("--tail", type=int, default=30, help="lines of a stage's output that are shown")
    parser.add_argument("--data", type=Path, help="archive or folder of CIFAR-10")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "simclr-cifar10")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(NOT_ENDED))  # so that a stage ends with this process
    if "cifar10" in options.stages and not (options.data and options.data.exists()):
        parser.error("cifar10 needs --data, an archive or a folder that exists")
    if extra and len(options.stages) > 1:
        parser.error(f"{' '.join(extra)}: for one stage, not for {len(options.stages)}")
    for name in ("out", "data", "work"):
        if path := getattr(options, name):
            setattr(options, name, path.resolve())  # the stages run in the project's folder
    options.out.mkdir(parents=True, exist_ok=True)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    with tempfile.TemporaryDirectory(prefix="simclr-wheels-") as folder:
        if options.wheels:
            use_wheels(options.wheels, Path(folder))
        if absent := [name for name in NEEDED if find_spec(name) is None]:
            print(f"not installed: {', '.join(absent)}; what imports them will fail", flush=True)
        outcomes = [run(stage, options, extra) for stage in options.stages]
    print("== summary")
    for outcome in outcomes:
        print(json.dumps(outcome))
    return 1 if any(outcome["status"] for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())

"""The API with its database, alone on this machine, and what it costs: for the benchmarks of serving."""

import hashlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from unittest.mock import patch

import httpx
import psutil
import torch

from models.config import pretrain_recipe
from models.export import Sample, export_model
from models.simclr import SimCLR
from models.variants import FLOORS
from service.core.db import Database
from service.core.ids import new_id
from service.core.schema import migrate
from service.core.settings import child_environment
from service.core.storage import LocalStorage
from service.core.tables import DEFAULT_TENANT, Alias, Model
from service.embedded.postgres import EmbeddedPostgres
from service.process import ChildProcess
from service.up import program

START_SECONDS, STOP_SECONDS = 120, 60
NO_REDIS = "redis://127.0.0.1:1"  # the API embeds without it


class Server:
    """A process that answers HTTP, and its children."""

    def __init__(self, port: int, pid: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._process = psutil.Process(pid)

    @property
    def cpu_seconds(self) -> float:
        """Processor time that it and its children, which are its decoders, have used."""
        times = [process.cpu_times() for process in self._processes()]
        return sum(time.user + time.system for time in times)

    @property
    def cpu_seconds_by_part(self) -> tuple[float, float, float]:
        """Processor time of the API's event loop, which is its first thread, its decoders, and its other threads."""
        threads = {thread.id: thread.user_time + thread.system_time for thread in self._process.threads()}
        event_loop = threads.pop(self._process.pid)
        decoders = [process.cpu_times() for process in self._process.children(recursive=True)]
        return event_loop, sum(time.user + time.system for time in decoders), sum(threads.values())

    @property
    def rss_bytes(self) -> int:
        """Memory of the same processes."""
        found: list[int] = [process.memory_info().rss for process in self._processes()]
        return sum(found)

    def memory(self) -> tuple[int, int]:
        """Their RSS, in which what they share counts for each, and their PSS, in which it counts once; bytes."""
        found = [p.memory_full_info() for p in self._processes()]
        return sum(info.rss for info in found), sum(info.pss for info in found)

    def terminate(self) -> None:
        """Tell it to stop, and wait until it has."""
        self._process.terminate()
        self._process.wait(STOP_SECONDS)

    def suspend(self) -> None:
        """Let it do nothing at all: some servers look for work many times a second."""
        for process in self._processes():
            process.suspend()

    def resume(self) -> None:
        """Go on."""
        for process in self._processes():
            process.resume()

    def kill(self) -> None:
        """End all of it, which some servers don't do by themselves."""
        for process in self._processes():
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def _processes(self) -> list[psutil.Process]:
        return [self._process, *self._process.children(recursive=True)]


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


def export(folder: Path, encoder: str, side: int) -> None:
    """A network of random weights, exported: what it computes costs the same."""
    torch.manual_seed(0)
    recipe = pretrain_recipe(
        {
            "preset": "cpu-small",
            "encoder": {"name": encoder, "width": 1, "stem": "cifar" if side < 64 else "imagenet"},
            "preprocessing": {"image_size": side, "crop_fraction": 1.0 if side < 64 else 0.875},
            "schedule": {"epochs": 0, "warmup_epochs": 0},
        }
    )
    model = SimCLR(recipe).eval()
    images = torch.randint(0, 256, (8, side, side, 3), dtype=torch.uint8).numpy()
    folder.mkdir(parents=True, exist_ok=True)
    with patch.dict(FLOORS, int8=-1.0):  # vectors of random weights nearly coincide: int8 is as fast, not as exact
        export_model(model, recipe, Sample(images, images), folder, ["int8"])


@contextmanager
def running_database(folder: Path) -> Iterator[str]:
    """The URL of an empty database."""
    postgres = EmbeddedPostgres(folder / "postgres", folder / "logs" / "postgres.log")
    url = postgres.start()
    try:
        migrate(url)
        yield url
    finally:
        postgres.stop()


def publish(database_url: str, folder: Path, exported: Path, *, alias: str) -> str:
    """Store an exported model and have an alias serve it; its id."""
    storage, id_ = LocalStorage(folder / "storage"), new_id("mdl")
    description = json.loads((exported / "model.json").read_text())
    files = {}
    for path in exported.glob("*.onnx"):
        content = path.read_bytes()
        key = f"models/{id_}/{path.name}"
        storage.put(key, content)
        files[path.name] = {"key": key, "sha256": hashlib.sha256(content).hexdigest(), "num_bytes": len(content)}
    columns = {name: description[name] for name in ("recipe", "preprocessing", "layers", "parity_cosine", "variants")}
    database = Database(database_url)
    with database.transaction() as session:
        session.add(Model(id=id_, files=files, **columns))
        session.flush()
        session.merge(Alias(tenant=DEFAULT_TENANT, name=alias, model_id=id_))
    database.close()
    return id_


@contextmanager
def running_api(folder: Path, database_url: str, **settings: str) -> Iterator[Server]:
    """The API on a free port, ready."""
    fixed = {"database_url": database_url, "redis_url": NO_REDIS, "data_dir": str(folder), "result_cache_bytes": "0"}
    process, port = program("api", folder / "logs"), free_port()
    command = [sys.executable, "-P", "-m", "service.cli", "api", "--port", str(port)]
    process.start(command, environment=child_environment(**fixed | settings))
    yield from _until_stopped(process, port)


@contextmanager
def running_endpoint(name: str, folder: Path, model: Path) -> Iterator[Server]:
    """The endpoint of NAME_endpoint.py, which opens `model`, on a free port, ready."""
    process, port = program(name, folder / "logs"), free_port()
    module = Path(__file__).with_name(f"{name}_endpoint.py")
    process.start([sys.executable, str(module), str(model), str(port)])
    for server in _until_stopped(process, port):
        server.suspend()
        yield server
        server.kill()


def _until_stopped(process: ChildProcess, port: int) -> Iterator[Server]:
    def answers() -> bool:
        try:
            return not httpx.get(f"http://127.0.0.1:{port}/openapi.json", timeout=5).is_server_error
        except httpx.TransportError:
            return False

    try:
        process.wait_until(answers, timeout_seconds=START_SECONDS)
        yield Server(port, _child_that_listens(port))
    finally:
        process.stop()


def _child_that_listens(port: int) -> int:
    """The process id of the child of this process that listens, itself or by a process of its own."""
    (listener,) = {c.pid for c in psutil.net_connections("tcp") if c.laddr.port == port and c.status == "LISTEN"}
    ancestry = [psutil.Process(listener), *psutil.Process(listener).parents()]
    return next(process.pid for process in ancestry if process.ppid() == os.getpid())


def run_load(arguments: Sequence[str]) -> dict[str, float]:
    """What load.py says, run as a process of its own: its Python must not slow the server's."""
    module = Path(__file__).with_name("load.py")
    command = [sys.executable, str(module), *arguments]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(run.stdout)
    return found

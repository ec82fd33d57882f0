"""A whole service on this machine with several worker nodes: what `simclr up` runs, but with more than one worker.

Where the kernel lets us, each node has a network namespace of its own, so that what its processes send to others goes
over a network; else the nodes differ in their names only. Each node has its share of the cores.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from service.core.schema import migrate
from service.core.settings import child_environment
from service.embedded.postgres import EmbeddedPostgres
from service.embedded.valkey import EmbeddedValkey
from service.process import ChildProcess
from service.supervisor import Supervisor
from service.up import WORKER_COMMAND, program

NODES = ("node-a", "node-b")
BRIDGE = "simclr-chaos"
SUBNET = "10.213.77"
POLL_SECONDS = 0.1


class Cluster:
    """The running parts; each is started again when it ends, as long as someone calls `wait_until`."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.supervisor = Supervisor()
        self.has_namespaces = False
        self._parts: dict[str, ChildProcess] = {}

    def start(self, addresses: Mapping[str, str]) -> None:
        """Start all parts; `addresses` are those of the nodes that have a network of their own."""
        self.has_namespaces = bool(addresses)
        logs = self.folder / "logs"
        postgres = EmbeddedPostgres(self.folder / "postgres", logs / "postgres.log")
        self.supervisor.start(postgres.process, postgres.start)
        migrate(postgres.url)
        host = f"{SUBNET}.1" if addresses else "127.0.0.1"
        valkey = EmbeddedValkey(self.folder / "valkey", logs / "valkey.log", host=host)
        self.supervisor.start(valkey.process, valkey.start)
        self._parts |= {"postgres": postgres.process, "valkey": valkey.process}
        shared = {"database_url": postgres.url, "redis_url": valkey.url, "data_dir": str(self.folder)}
        shared["growth_seconds"] = "2"
        for number, name in enumerate(NODES):
            command = [*_on_share_of_cores(number), *_inside(name if addresses else ""), *WORKER_COMMAND]
            self._start(name, command, shared | {"node_name": name, "node_address": addresses.get(name, "")})
        self._start("api", [sys.executable, "-P", "-m", "service.cli", "api", "--port", str(self.port)], shared)

    def _start(self, name: str, command: Sequence[str], settings: Mapping[str, str]) -> None:
        process = program(name, self.folder / "logs")
        environment = child_environment(**settings)
        self.supervisor.start(process, partial(process.start, command, environment=environment))
        self._parts[name] = process

    def wait_until(self, condition: Callable[[], Any], *, seconds: float, what: str) -> float:
        """Poll until the condition holds; how many seconds that took. Exits if it takes longer than `seconds`."""
        began = time.monotonic()
        while not condition():
            self.supervisor.check()
            if time.monotonic() - began > seconds:
                sys.exit(f"after {seconds:g} s still not: {what}; logs in {self.folder / 'logs'}")
            time.sleep(POLL_SECONDS)
        return time.monotonic() - began

    def part(self, name: str) -> psutil.Process:
        """A part that runs: postgres, valkey, api, or a node's worker by the node's name. Exits if it has ended."""
        try:
            return psutil.Process(self._parts[name].pid)
        except psutil.NoSuchProcess:
            sys.exit(f"{name} does not run; logs in {self.folder / 'logs'}")

    def processes(self, *words: str) -> list[psutil.Process]:
        """The processes on this cluster's folder whose command has all the words."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            line = " ".join(process.info["cmdline"] or ())  # none: it has ended
            if str(self.folder) in line and all(word in line for word in words):
                found.append(process)
        return found


@contextmanager
def running_cluster(folder: Path, port: int) -> Iterator[Cluster]:
    """The cluster, stopped when the block ends."""
    with node_networks() as addresses:
        cluster = Cluster(folder, port)
        try:
            cluster.start(addresses)
            yield cluster
        finally:
            cluster.supervisor.stop()


@contextmanager
def node_networks() -> Iterator[dict[str, str]]:
    """A namespace a node, joined by a bridge: the address of each node; none where that isn't allowed."""
    if os.geteuid() or not shutil.which("ip") or not _ip(f"link add {BRIDGE} type bridge"):
        yield {}
        return
    try:
        _ip(f"addr add {SUBNET}.1/24 dev {BRIDGE}", f"link set {BRIDGE} up")
        for number, name in enumerate(NODES, start=2):
            inside = f"netns exec {name} ip"
            outer, inner = f"chaos{number}", f"chaos{number}i"
            _ip(f"netns add {name}", f"link add {outer} type veth peer name {inner}", f"link set {inner} netns {name}")
            _ip(f"link set {outer} master {BRIDGE} up", f"{inside} addr add {SUBNET}.{number}/24 dev {inner}")
            _ip(f"{inside} link set {inner} up", f"{inside} link set lo up")
        yield {name: f"{SUBNET}.{number}" for number, name in enumerate(NODES, start=2)}
    finally:
        for name in NODES:
            _ip(f"netns del {name}")  # its end of the pair goes with it, and the other end with that
        _ip(f"link del {BRIDGE}")


def _ip(*commands: str) -> bool:
    """Whether all the commands of iproute2 succeed."""
    runs = [subprocess.run(["ip", *command.split()], capture_output=True, check=False) for command in commands]  # noqa: S607
    return all(run.returncode == 0 for run in runs)


def _inside(namespace: str) -> list[str]:
    return ["ip", "netns", "exec", namespace] if namespace else []


def _on_share_of_cores(number: int) -> list[str]:
    """A prefix that gives node `number` its part of the cores, if there is one for each."""
    cores = sorted(os.sched_getaffinity(0))
    own = cores[number :: len(NODES)]
    return ["taskset", "-c", ",".join(map(str, own))] if own and shutil.which("taskset") else []

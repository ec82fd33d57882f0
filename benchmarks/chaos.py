"""What is lost when parts of the service are killed? Jobs on two nodes and a queue of short ones, under kill -9.

    python benchmarks/chaos.py [--each 2] [--seed 0] [--out chaos.json]

Starts a service with two worker nodes (cluster.py) and trains a small network on both without a fault. Then the same
job runs again, as often as it takes, beside 20 short ones, while a rank, an agent (the launcher of a node's ranks), a
worker, Redis, PostgreSQL and the API are killed, each --each times. Recovery is counted in seconds from the kill:

    rank, agent, worker   to the first step of the next attempt
    redis                 to the success of a job that was submitted after the kill
    postgres              to the next event of the training, and to a list of jobs over HTTP
    api                   to a ready API

Last, a job of one or two nodes meets a worker that is frozen, thaws, and is frozen and thaws once more: it starts on
one node, grows, goes on with one, and grows again.

Ends with one JSON line; exits with 1 unless every job succeeded exactly once, no process is left, each disturbed
training ends with the very loss of the undisturbed one, and the last job had 1, 2, 1 and 2 nodes.
"""

import argparse
import json
import random
import statistics
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
from cluster import NODES, Cluster, running_cluster
from images import write_small_images
from machine import device_name, versions

from service.client import ApiError, Client
from tests.stack import free_port

JSON = dict[str, Any]

NUM_IMAGES = 1024
NUM_SHORT_JOBS = 20
NUM_CPU_JOBS = 4  # of these; the others need no core of a node
FAULTS = ("rank", "redis", "agent", "postgres", "worker", "api")
RECOVERY_SECONDS = 60  # more is a failure
MIN_SECONDS_LEFT = 4  # of a training that is struck
ORPHAN_SECONDS = 5  # after its agent, its worker or another rank was killed, a process is gone
TWO_NODES = {"nodes": {"min": 2, "max": 2}, "device": "cpu"}
RECIPE: JSON = {
    "batch_size": 64,
    "preprocessing": {"image_size": 16},
    "encoder": {"name": "resnet10", "width": 0.25},
    "augmentation": {"color_strength": 0.5, "blur_probability": 0.0},
    "loss": {"temperature": 0.5},
    "schedule": {"epochs": 10, "warmup_epochs": 1},
    "checkpoint_every_seconds": 1,
}


class Chaos:
    """The jobs, and what happens to them."""

    def __init__(self, cluster: Cluster, client: Client, seed: int) -> None:
        self.cluster = cluster
        self.client = client
        self.random = random.Random(seed)  # noqa: S311  # which node is hit
        self.dataset_id = ""
        self.model_id = ""
        self.jobs: list[str] = []  # all
        self.gangs: list[str] = []  # those on two nodes that are disturbed
        self.num_short_jobs = 0
        self.orphans = 0
        self.recovery: dict[str, list[float]] = {fault: [] for fault in FAULTS}

    def ask(self, path: str, **query: Any) -> JSON | None:
        """The JSON at a path, or None while the API or the database is away."""
        try:
            return self.client.get(path, **query)
        except (httpx.TransportError, ApiError):
            return None

    def wait_until(self, condition: Callable[[], Any], what: str, seconds: float = RECOVERY_SECONDS) -> float:
        """How many seconds until the condition holds."""
        return self.cluster.wait_until(condition, seconds=seconds, what=what)

    def submit(self, kind: str, **fields: Any) -> str:
        """A new job's id; tried again, with the same key, until the API has answered."""
        key = f"chaos-{len(self.jobs)}"
        answers: list[JSON] = []

        def post() -> bool:
            try:
                headers = {"Idempotency-Key": key}
                response = self.client.request("POST", "/v1/jobs", json={"kind": kind, **fields}, headers=headers)
                answers.append(response.json())
            except (httpx.TransportError, ApiError):
                return False
            return True

        self.wait_until(post, f"a {kind} job accepted")
        self.jobs.append(answers[0]["id"])
        return self.jobs[-1]

    def train(self) -> str:
        """A new job on both nodes."""
        return self.submit("pretrain", dataset_id=self.dataset_id, recipe=RECIPE, resources=TWO_NODES)

    def job(self, job_id: str) -> JSON:
        """The job; empty while nobody answers."""
        return self.ask(f"/v1/jobs/{job_id}") or {}

    def has_ended(self, job_id: str) -> bool:
        """Whether it is over, well or not."""
        return self.job(job_id).get("status") in {"succeeded", "failed", "cancelled"}

    def events(self, job_id: str, after: int = 0) -> list[JSON]:
        """All events of a job after the event `after`; none while nobody answers."""
        found: list[JSON] = []
        while page := self.ask(f"/v1/jobs/{job_id}/events", after=after, limit=500):
            found += page["items"]
            if len(page["items"]) < 500:
                break
            after = found[-1]["id"]
        return found

    def prepare(self, folder: Path) -> JSON:
        """The data set, and the undisturbed run."""
        images = folder / "images"
        images.mkdir()
        write_small_images(images, NUM_IMAGES)
        archive = folder / "images.tar"
        with tarfile.open(archive, "w") as tar:
            tar.add(images, ".")
        self.dataset_id = self.client.create_dataset(archive)["id"]
        self.wait_until(lambda: self.client.get(f"/v1/datasets/{self.dataset_id}")["status"] == "ready", "data set")
        began = time.monotonic()
        reference = self.train()
        self.wait_until(lambda: self.has_ended(reference), "the undisturbed run", 120)
        job = self.job(reference)
        if job["status"] != "succeeded":
            sys.exit(f"the undisturbed run {job['status']}: {job['error']}")
        self.model_id = job["result"]["model_id"]
        print(f"undisturbed: loss {job['result']['loss']}, {time.monotonic() - began:.1f} s", flush=True)
        return job

    def submit_short_jobs(self, number: int) -> None:
        """Have so many short jobs: index jobs without images, and some that export a network as initialised."""
        while self.num_short_jobs < number:
            if self.num_short_jobs % (NUM_SHORT_JOBS // NUM_CPU_JOBS) == 0:
                recipe = RECIPE | {"schedule": {"epochs": 0, "warmup_epochs": 0}}
                self.submit("pretrain", dataset_id=self.dataset_id, recipe=recipe, resources={"device": "cpu"})
            else:
                self.submit("index", model_id=self.model_id)
            self.num_short_jobs += 1

    def training(self) -> tuple[str, int]:
        """A job on two nodes that has stored a checkpoint of the attempt that runs, and the id of its newest event."""
        self.wait_until(self.is_under_way, "training with a checkpoint")
        return self.gangs[-1], self.events(self.gangs[-1])[-1]["id"]

    def is_under_way(self) -> bool:
        """Whether the last two-node job has a checkpoint of this attempt and time to go; submits one if it is over."""
        if not self.gangs or self.has_ended(self.gangs[-1]):
            self.gangs.append(self.train())
        job_id = self.gangs[-1]
        kept = {"status", "checkpoint"}
        marks = [e["data"].get("status", e["type"]) for e in self.events(job_id) if e["type"] in kept]
        has_checkpoint = marks[-2:] in (["running", "checkpoint"], ["checkpoint", "checkpoint"])
        return has_checkpoint and (self.job(job_id).get("eta_seconds") or 0) > MIN_SECONDS_LEFT

    def strike(self, fault: str) -> None:
        """Kill a part, wait until the service has recovered, and note the seconds."""
        job_id, seen = self.training()
        node = self.random.choice(NODES)
        began = time.monotonic()
        if fault in {"rank", "agent", "worker"}:
            attempt = self.job(job_id)["attempt"]
            self._kill_on(node, fault)
            self.wait_until(lambda: self._has_stepped(job_id, seen, attempt + 1), f"training after the {fault}'s death")
        elif fault == "redis":
            _kill(self._servers("valkey-server"))
            probe = self.submit("index", model_id=self.model_id)
            self.wait_until(lambda: self.job(probe).get("status") == "succeeded", "a job after Redis' death")
        elif fault == "postgres":
            _kill(self._servers("bin/postgres"))
            self.wait_until(lambda: self._has_stepped(job_id, seen, 0), "training after PostgreSQL's death")
            self.wait_until(lambda: self.ask("/v1/jobs", limit=5), "a list of jobs")
        else:
            _kill(self._servers("service.cli api"))
            self.wait_until(lambda: self.ask("/readyz"), "a ready API")
        self.recovery[fault].append(round(time.monotonic() - began, 1))
        print(f"{fault:9}{self.recovery[fault][-1]:6.1f} s   {job_id} {self.job(job_id).get('status')}", flush=True)

    def freeze_and_thaw(self) -> list[int]:
        """How many nodes the attempts of a job of one or two had, while one of the workers is frozen twice."""
        (worker,) = (worker for worker in self._servers("trainer.worker") if _node_of(worker) == NODES[1])
        worker.suspend()
        self.wait_until(lambda: self.num_live_nodes() == 1, "a node that is silent")
        long = RECIPE | {"schedule": {"epochs": 45, "warmup_epochs": 1}}
        resources = {"nodes": {"min": 1, "max": 2}, "device": "cpu"}
        job_id = self.submit("pretrain", dataset_id=self.dataset_id, recipe=long, resources=resources)
        for number, act in enumerate((worker.resume, worker.suspend, worker.resume), start=1):
            self.wait_until(lambda n=number: self._has_stepped(job_id, 0, n), f"training in attempt {number}")
            act()
        self.wait_until(lambda: self._has_stepped(job_id, 0, 4), "training in attempt 4")
        self.wait_until(lambda: self.has_ended(job_id), "the end of a long job", 180)
        starts = (e["data"] for e in self.events(job_id) if e["data"].get("status") == "running")
        return [len(data["nodes"]) for data in starts]

    def num_live_nodes(self) -> int:
        """Nodes whose heartbeat is fresh."""
        return sum(node["is_alive"] for node in (self.ask("/v1/system") or {"nodes": []})["nodes"])

    def _kill_on(self, node: str, fault: str) -> None:
        """Kill a rank, the launcher of the ranks or the worker of a node, and count what does not go with it."""
        launchers = self.cluster.processes("trainer.launch", f"/{node}/")
        ranks = [rank for launcher in launchers for rank in launcher.children()]
        workers = [worker for worker in self._servers("trainer.worker") if _node_of(worker) == node]
        _kill({"rank": ranks[:1], "agent": launchers, "worker": workers}[fault])
        _, alive = psutil.wait_procs([*ranks, *launchers], timeout=ORPHAN_SECONDS)
        self.orphans += len(alive)

    def _servers(self, words: str) -> list[psutil.Process]:
        """The parts of the cluster, children of this process, whose command has the words."""
        return [child for child in psutil.Process().children() if words in " ".join(child.cmdline())]

    def _has_stepped(self, job_id: str, seen: int, attempt: int) -> bool:
        events = self.events(job_id, after=seen)
        return any(e["type"] == "metrics" and e["attempt"] >= attempt for e in events) or self.has_ended(job_id)

    def verdict(self, reference: JSON) -> JSON:
        """What has become of all jobs."""
        ended = {job_id: self.job(job_id) for job_id in self.jobs}
        num_ends = {
            job_id: sum(e["data"].get("status") == "succeeded" for e in self.events(job_id)) for job_id in self.jobs
        }
        made = [model["job_id"] for model in self.client.pages("/v1/models")]
        doubled = [job_id for job_id in self.jobs if num_ends[job_id] > 1 or made.count(job_id) > 1]
        losses = [ended[job_id]["result"]["loss"] for job_id in self.gangs if ended[job_id]["status"] == "succeeded"]
        for job_id, job in ended.items():
            if job["status"] != "succeeded":
                print(f"{job_id} {job['kind']} {job['status']}: {job['error']}")
        return {
            "jobs": len(self.jobs),
            "lost": sum(job["status"] != "succeeded" for job in ended.values()),
            "duplicated": len(doubled),
            "orphans": self.orphans,
            "loss_equal": len(losses) == len(self.gangs) and set(losses) == {reference["result"]["loss"]},
            "recovery_seconds": {name: round(statistics.median(found), 1) for name, found in self.recovery.items()},
            "recovery_seconds_all": self.recovery,
            "attempts": {job_id: ended[job_id]["attempt"] for job_id in self.gangs},
        }


def _node_of(worker: psutil.Process) -> str | None:
    return worker.environ().get("SIMCLR_NODE_NAME")


def _kill(processes: list[psutil.Process]) -> None:
    if not processes:
        sys.exit("nothing to kill: the part does not run")
    for process in processes:
        process.kill()


def run(folder: Path, each: int, seed: int) -> JSON:
    """All of it; the figures."""
    began = time.monotonic()
    with (
        running_cluster(folder, free_port()) as cluster,
        Client(cluster.url, timeout_seconds=10, retry_seconds=0) as client,
    ):
        chaos = Chaos(cluster, client, seed)
        chaos.wait_until(lambda: (chaos.ask("/readyz") or {}).get("status") == "ready", "a ready service")
        chaos.wait_until(lambda: chaos.num_live_nodes() == len(NODES), "two nodes")
        reference = chaos.prepare(folder)
        faults = [fault for _ in range(each) for fault in FAULTS]
        for number, fault in enumerate(faults, start=1):
            chaos.submit_short_jobs(NUM_SHORT_JOBS * number // len(faults))
            chaos.strike(fault)
        chaos.wait_until(lambda: all(map(chaos.has_ended, chaos.jobs)), "all jobs at an end", 120)
        nodes = chaos.freeze_and_thaw()
        figures = chaos.verdict(reference)
    figures["orphans"] += len(cluster.processes())
    return {
        **figures,
        "nodes_by_attempt": nodes,
        "namespaces": cluster.has_namespaces,
        "seconds": round(time.monotonic() - began),
    }


def main() -> int:
    """Run it; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", type=int, default=2, help="how often each part is killed")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of nodes")
    parser.add_argument("--out", type=Path, help="file for the JSON line")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="simclr-chaos-") as folder:
        figures = run(Path(folder), options.each, options.seed)
    line = json.dumps({**figures, "device": device_name(), "versions": versions()})
    if options.out:
        options.out.write_text(line + "\n")
    print(line)
    is_well = not (figures["lost"] or figures["duplicated"] or figures["orphans"])
    return 0 if is_well and figures["loss_equal"] and figures["nodes_by_attempt"] == [1, 2, 1, 2] else 1


if __name__ == "__main__":
    sys.exit(main())

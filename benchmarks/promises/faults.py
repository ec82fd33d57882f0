"""What is done to a service with two nodes while it trains on both, and how it recovers.

Each fault strikes a training job that has a checkpoint. Its recovery is counted in seconds:

    rank, agent, worker   kill -9, to the first step of the next attempt; the agent is the launcher of a node's ranks
    stop                  SIGTERM to a worker, likewise
    checkpoint            kill -9 of a worker and a flipped bit in the newest checkpoint, likewise
    redis                 kill -9, from its return to the success of a job that was submitted while it was away
    postgres              kill -9, from the end of the time that it is kept away to a step of the same attempt
    api                   kill -9, to a ready API
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psutil
from cluster import NODES
from promises import away
from promises.jobs import RECIPE, Jobs

JSON = dict[str, Any]

ORPHAN_SECONDS = 5  # after its agent, its worker or another rank was killed, a process is gone
STOP_SECONDS = 30  # within which a worker that was told to stop has ended


@dataclass
class Struck:
    """What was seen while parts were killed: all figures by fault or name, each time it struck."""

    recovery_seconds: dict[str, list[float]] = field(default_factory=dict)
    lost_seconds: dict[str, list[float]] = field(default_factory=dict)  # of training
    orphans: int = 0
    figures: dict[str, list[float]] = field(default_factory=dict)

    def note(self, name: str, value: float) -> None:
        """Keep a figure."""
        self.figures.setdefault(name, []).append(value)


def strike(fault: str, jobs: Jobs, struck: Struck) -> None:
    """Strike, wait until the service has recovered, and note the seconds."""
    job_id = jobs.under_way()
    seconds = FAULTS[fault](jobs, job_id, struck)
    struck.recovery_seconds.setdefault(fault, []).append(round(seconds, 1))
    print(f"{fault:10}{seconds:6.1f} s   {job_id} {jobs.get(job_id).get('status')}", flush=True)


def _rank(jobs: Jobs, job_id: str, struck: Struck) -> float:
    node = jobs.random.choice(NODES)
    ranks = [rank for launcher in _launchers(jobs, node) for rank in launcher.children()]
    return _next_attempt(jobs, job_id, struck, "rank", node, ranks[0].kill)


def _agent(jobs: Jobs, job_id: str, struck: Struck) -> float:
    node = jobs.random.choice(NODES)
    return _next_attempt(jobs, job_id, struck, "agent", node, _launchers(jobs, node)[0].kill)


def _worker(jobs: Jobs, job_id: str, struck: Struck) -> float:
    node = jobs.random.choice(NODES)
    return _next_attempt(jobs, job_id, struck, "worker", node, lambda: jobs.cluster.part(node).kill())


def _stop(jobs: Jobs, job_id: str, struck: Struck) -> float:
    node = jobs.random.choice(NODES)
    worker = jobs.cluster.part(node)

    def stop() -> None:
        began = time.monotonic()
        worker.terminate()
        worker.wait(STOP_SECONDS)
        struck.note("worker_drain_seconds", time.monotonic() - began)

    return _next_attempt(jobs, job_id, struck, "stop", node, stop)


def _checkpoint(jobs: Jobs, job_id: str, struck: Struck) -> float:
    path = f"/v1/jobs/{job_id}/checkpoints"
    jobs.wait_until(lambda: len((jobs.ask(path) or {"items": []})["items"]) > 1, "two checkpoints")
    node = jobs.first_node(job_id)  # whose agent stores them
    damaged: list[int] = []

    def kill_and_damage() -> None:
        worker = jobs.cluster.part(node)
        worker.kill()
        worker.wait(ORPHAN_SECONDS)
        newest = jobs.client.get(path)["items"][0]
        name = f"step-{newest['step']:08d}-{newest['attempt']}.pt"
        file = jobs.cluster.folder / "storage" / "jobs" / job_id / "checkpoints" / name
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
        damaged.append(newest["step"])

    seconds = _next_attempt(jobs, job_id, struck, "checkpoint", node, kill_and_damage)
    warnings = [e["data"] for e in jobs.events(job_id) if e["type"] == "warning"]
    noticed = [w["step"] for w in warnings if w.get("code") == "corrupt_checkpoint"]
    struck.note("damaged_checkpoints_used", damaged[0] not in noticed)
    return seconds


def _redis(jobs: Jobs, _: str, struck: Struck) -> float:
    seconds = away.without_redis(jobs, struck.note)
    struck.note("consuming_seconds", seconds)
    return seconds


def _postgres(jobs: Jobs, job_id: str, struck: Struck) -> float:
    attempt = jobs.get(job_id)["attempt"]
    seconds = away.without_database(jobs, job_id, struck.note)
    struck.note("attempts_by_database", jobs.get(job_id)["attempt"] - attempt)
    return seconds


def _api(jobs: Jobs, _: str, __: Struck) -> float:
    jobs.cluster.part("api").kill()
    return jobs.wait_until(lambda: jobs.ask("/readyz"), "a ready API")


FAULTS: dict[str, Callable[[Jobs, str, Struck], float]] = {
    "rank": _rank,
    "redis": _redis,
    "agent": _agent,
    "postgres": _postgres,
    "worker": _worker,
    "api": _api,
    "stop": _stop,
    "checkpoint": _checkpoint,
}


def _launchers(jobs: Jobs, node: str) -> list[psutil.Process]:
    return jobs.cluster.processes("trainer.launch", f"/{node}/")


def _next_attempt(jobs: Jobs, job_id: str, struck: Struck, fault: str, node: str, act: Callable[[], None]) -> float:
    """Seconds from the act to a step of the next attempt; what is left of the node's processes, and what was lost."""
    attempt = jobs.get(job_id)["attempt"]
    launchers = _launchers(jobs, node)
    family = [*launchers, *(rank for launcher in launchers for rank in launcher.children())]
    began = time.monotonic()
    act()
    _, alive = psutil.wait_procs(family, timeout=ORPHAN_SECONDS)
    struck.orphans += len(alive)
    jobs.wait_until(lambda: jobs.has_stepped(job_id, attempt=attempt + 1), f"training after the {fault}'s end")
    seconds = time.monotonic() - began
    struck.lost_seconds.setdefault(fault, []).append(round(lost_seconds(jobs.events(job_id), attempt), 2))
    return seconds


def lost_seconds(events: list[JSON], attempt: int) -> float:
    """How long an attempt had trained, at its own pace, from the newest stored step to the newest that it told of."""
    told = [e["data"] for e in events if e["type"] == "metrics" and e["attempt"] == attempt]
    stored = [e["data"]["step"] for e in events if e["type"] == "checkpoint" and e["attempt"] <= attempt]
    if not told:
        return 0.0
    num_images = max(0, told[-1]["step"] - max(stored)) * RECIPE["batch_size"]
    return num_images / float(told[-1]["images_per_second"])

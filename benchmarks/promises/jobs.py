"""Jobs on a service with two nodes: what is submitted, what became of it, and how to ask while parts are away."""

import random
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from cluster import Cluster
from images import write_small_images

from service.client import ApiError, Client

JSON = dict[str, Any]

NUM_IMAGES = 1024
RECOVERY_SECONDS = 60  # what takes longer is given up
MIN_SECONDS_LEFT = 4  # of a training that is struck
TWO_NODES = {"nodes": {"min": 2, "max": 2}, "device": "cpu"}
RECIPE: JSON = {
    "batch_size": 64,
    "preprocessing": {"image_size": 16},
    "encoder": {"name": "resnet10", "width": 0.25},
    "augmentation": {"color_strength": 0.5, "blur_probability": 0.0},
    "loss": {"temperature": 0.5},
    "schedule": {"epochs": 9, "warmup_epochs": 1},
    "checkpoint_every_seconds": 1,
}


class Jobs:
    """The jobs of one run. `gangs` are those on two nodes that are disturbed, the last one is being trained."""

    def __init__(self, cluster: Cluster, client: Client, seed: int) -> None:
        self.cluster = cluster
        self.client = client
        self.random = random.Random(seed)  # noqa: S311  # which node is hit
        self.dataset_id = self.model_id = ""
        self.all: list[str] = []
        self.gangs: list[str] = []

    def ask(self, path: str, **query: Any) -> JSON | None:
        """The JSON at a path, or None while the API or the database is away."""
        try:
            return self.client.get(path, **query)
        except (httpx.TransportError, ApiError):
            return None

    def wait_until(self, condition: Callable[[], Any], what: str, seconds: float = RECOVERY_SECONDS) -> float:
        """How many seconds until the condition holds; meanwhile parts that have ended are started again."""
        return self.cluster.wait_until(condition, seconds=seconds, what=what)

    def post(self, kind: str, **fields: Any) -> str:
        """A new job's id. Raises httpx.TransportError or ApiError."""
        headers = {"Idempotency-Key": f"chaos-{len(self.all)}"}
        answer = self.client.request("POST", "/v1/jobs", json={"kind": kind, **fields}, headers=headers)
        self.all.append(answer.json()["id"])
        return self.all[-1]

    def submit(self, kind: str, **fields: Any) -> str:
        """A new job's id; tried again, with the same key, until the API has answered."""

        def is_accepted() -> bool:
            try:
                self.post(kind, **fields)
            except (httpx.TransportError, ApiError):
                return False
            return True

        self.wait_until(is_accepted, f"a {kind} job accepted")
        return self.all[-1]

    def train(self, resources: JSON = TWO_NODES, **schedule: int) -> str:
        """A new training job, by default on both nodes."""
        recipe = RECIPE | {"schedule": RECIPE["schedule"] | schedule}
        return self.submit("pretrain", dataset_id=self.dataset_id, recipe=recipe, resources=resources)

    def export(self) -> str:
        """A job that takes a node's cores for some seconds: it exports a network as initialised."""
        return self.train({"device": "cpu"}, epochs=0, warmup_epochs=0)

    def get(self, job_id: str) -> JSON:
        """The job; empty while nobody answers."""
        return self.ask(f"/v1/jobs/{job_id}") or {}

    def has_ended(self, job_id: str) -> bool:
        """Whether it is over, well or not."""
        return self.get(job_id).get("status") in {"succeeded", "failed", "cancelled"}

    def events(self, job_id: str, after: int = 0) -> list[JSON]:
        """All events of a job after the event `after`; none while nobody answers."""
        found: list[JSON] = []
        while page := self.ask(f"/v1/jobs/{job_id}/events", after=after, limit=500):
            found += page["items"]
            if len(page["items"]) < 500:
                break
            after = found[-1]["id"]
        return found

    def has_stepped(self, job_id: str, *, seen: int = 0, attempt: int = 0) -> bool:
        """Whether such an attempt has trained after the event `seen`, or the job is over."""
        events = self.events(job_id, after=seen)
        return any(e["type"] == "metrics" and e["attempt"] >= attempt for e in events) or self.has_ended(job_id)

    def undisturbed(self, folder: Path) -> JSON:
        """The data set, and the job that the disturbed ones are held against."""
        images = folder / "images"
        images.mkdir()
        write_small_images(images, NUM_IMAGES)
        archive = folder / "images.tar"
        with tarfile.open(archive, "w") as tar:
            tar.add(images, ".")
        self.dataset_id = self.client.create_dataset(archive)["id"]
        self.wait_until(lambda: self.client.get(f"/v1/datasets/{self.dataset_id}")["status"] == "ready", "data set")
        began = time.monotonic()
        job_id = self.train()
        self.wait_until(lambda: self.has_ended(job_id), "the undisturbed run", 300)
        job = self.get(job_id)
        if job["status"] != "succeeded":
            sys.exit(f"the undisturbed run {job['status']}: {job['error']}")
        print(f"undisturbed: loss {job['result']['loss']}, {time.monotonic() - began:.1f} s", flush=True)
        return job

    def under_way(self) -> str:
        """A job on two nodes that has stored a checkpoint in the attempt that runs, and has some way to go."""
        self.wait_until(self._is_under_way, "training with a checkpoint")
        return self.gangs[-1]

    def _is_under_way(self) -> bool:
        if not self.gangs or self.has_ended(self.gangs[-1]):
            self.gangs.append(self.train())
        job_id = self.gangs[-1]
        kept = {"status", "checkpoint"}
        marks = [e["data"].get("status", e["type"]) for e in self.events(job_id) if e["type"] in kept]
        has_checkpoint = marks[-2:] in (["running", "checkpoint"], ["checkpoint", "checkpoint"])
        return has_checkpoint and (self.get(job_id).get("eta_seconds") or 0) > MIN_SECONDS_LEFT

    def num_live_nodes(self) -> int:
        """Nodes whose heartbeat is fresh."""
        return sum(node["is_alive"] for node in (self.ask("/v1/system") or {"nodes": []})["nodes"])

    def first_node(self, job_id: str) -> str:
        """The node whose agent speaks for a job that runs."""
        for node in self.client.get("/v1/system")["nodes"]:
            if any(part["job_id"] == job_id and part["node_rank"] == 0 for part in node["running"]):
                name: str = node["name"]
                return name
        sys.exit(f"{job_id} runs on no node")

"""A worker that hangs: its job goes on with the node that is left, and grows when the other thaws."""

from cluster import NODES
from promises.jobs import JSON, Jobs

LONG = 1000  # epochs: it doesn't end by itself
ONE_OR_TWO = {"nodes": {"min": 1, "max": 2}, "device": "cpu"}


def freeze_and_thaw(jobs: Jobs) -> tuple[list[int], float]:
    """How many nodes the job's attempts had from the first with two, and seconds from the freezing to one's step."""
    job_id = jobs.train(ONE_OR_TWO, epochs=LONG)
    jobs.wait_until(lambda: _trains_on(jobs, job_id, num_nodes=2), "training on two nodes")
    before = len(_starts(jobs, job_id)) - 1  # while the other node was busy, it may have begun with one
    frozen = next(node for node in NODES if node != jobs.first_node(job_id))
    worker = jobs.cluster.part(frozen)
    worker.suspend()
    seconds = jobs.wait_until(lambda: _trains_on(jobs, job_id, num_nodes=1), "training on one node")
    worker.resume()
    jobs.wait_until(lambda: _trains_on(jobs, job_id, num_nodes=2), "training on two nodes again")
    jobs.client.cancel_job(job_id)
    jobs.wait_until(lambda: jobs.get(job_id).get("status") == "cancelled", "the end of the job")
    jobs.all.remove(job_id)  # it did not have to succeed
    return [len(start["data"]["nodes"]) for start in _starts(jobs, job_id)[before:]], seconds


def _starts(jobs: Jobs, job_id: str) -> list[JSON]:
    return [event for event in jobs.events(job_id) if event["data"].get("status") == "running"]


def _trains_on(jobs: Jobs, job_id: str, *, num_nodes: int) -> bool:
    """Whether the newest attempt has so many nodes, and has trained."""
    newest = _starts(jobs, job_id)[-1:]
    return any(len(start["data"]["nodes"]) == num_nodes for start in newest) and jobs.has_stepped(
        job_id, seen=newest[0]["id"], attempt=newest[0]["attempt"]
    )

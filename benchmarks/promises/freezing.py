"""A worker that hangs: its job goes on with the node that is left, and grows when the other thaws."""

from cluster import NODES
from promises.jobs import Jobs

LONG = 1000  # epochs: it doesn't end by itself
ONE_OR_TWO = {"nodes": {"min": 1, "max": 2}, "device": "cpu"}


def freeze_and_thaw(jobs: Jobs) -> tuple[list[int], float]:
    """How many nodes the attempts of a job had, and seconds from the freezing to a step with one node."""
    job_id = jobs.train(ONE_OR_TWO, epochs=LONG)
    jobs.wait_until(lambda: jobs.has_stepped(job_id, attempt=1), "training on two nodes")
    frozen = next(node for node in NODES if node != jobs.first_node(job_id))
    worker = jobs.cluster.part(frozen)
    worker.suspend()
    seconds = jobs.wait_until(lambda: jobs.has_stepped(job_id, attempt=2), "training on one node")
    worker.resume()
    jobs.wait_until(lambda: jobs.has_stepped(job_id, attempt=3), "training on two nodes again")
    jobs.client.cancel_job(job_id)
    jobs.wait_until(lambda: jobs.get(job_id).get("status") == "cancelled", "the end of the job")
    jobs.all.remove(job_id)  # it did not have to succeed
    starts = (e["data"] for e in jobs.events(job_id) if e["data"].get("status") == "running")
    return [len(data["nodes"]) for data in starts], seconds

"""Jobs on two nodes beside a queue of short ones, while every part of the service is killed."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cluster import NODES, running_cluster
from promises.faults import STOP_SECONDS, Struck, strike
from promises.freezing import freeze_and_thaw
from promises.jobs import JSON, RECIPE, Jobs
from promises.ledger import Ledger

from service.client import Client
from tests.stack import free_port

SHORT_JOBS = 3  # submitted before each fault
STORING_SECONDS = 1  # until a checkpoint that was written is in the storage


def measure(ledger: Ledger, folder: Path, faults: Sequence[str], seed: int, *, with_freezing: bool) -> None:
    """Run it all, and enter the promises that these faults put to the test."""
    with (
        running_cluster(folder, free_port()) as cluster,
        Client(cluster.url, timeout_seconds=10, retry_seconds=0) as client,
    ):
        jobs, struck = Jobs(cluster, client, seed), Struck()
        jobs.wait_until(lambda: (jobs.ask("/readyz") or {}).get("status") == "ready", "a ready service")
        jobs.wait_until(lambda: jobs.num_live_nodes() == len(NODES), "two nodes")
        reference = jobs.undisturbed(folder)
        jobs.model_id = reference["result"]["model_id"]
        client.set_alias("production", jobs.model_id)
        for number, fault in enumerate(faults):
            jobs.under_way()
            _submit_short_jobs(jobs, number)
            strike(fault, jobs, struck)
        jobs.wait_until(lambda: all(map(jobs.has_ended, jobs.all)), "all jobs at an end", 300)
        frozen = freeze_and_thaw(jobs) if with_freezing else None
        outcome = _outcome(jobs, reference)
    struck.orphans += len(cluster.processes())
    _enter_jobs(ledger, outcome, struck)
    _enter_recovery(ledger, struck)
    _enter_away(ledger, struck.figures)
    if frozen is not None:
        nodes, seconds = frozen
        ledger.at_most("frozen_worker_seconds", "a job trains on without a worker that hangs", 45, seconds, "s")
        ledger.same("nodes_by_attempt", "it goes on with fewer nodes, and grows again", [2, 1, 2], nodes)
    ledger.note(has_network_namespaces=cluster.has_namespaces)


def _submit_short_jobs(jobs: Jobs, number: int) -> None:
    """Index jobs without images; with the first fault, one that takes a node's cores."""
    for _ in range(SHORT_JOBS - 1):
        jobs.submit("index", model_id=jobs.model_id)
    if number == 0:
        jobs.export()
    else:
        jobs.submit("index", model_id=jobs.model_id)


def _outcome(jobs: Jobs, reference: JSON) -> JSON:
    """What has become of all jobs."""
    ended = {job_id: jobs.get(job_id) for job_id in jobs.all}
    for job_id, job in ended.items():
        if job["status"] != "succeeded":
            print(f"{job_id} {job['kind']} {job['status']}: {job['error']}")
    num_ends = {id_: sum(e["data"].get("status") == "succeeded" for e in jobs.events(id_)) for id_ in jobs.all}
    num_models = Counter(model["job_id"] for model in jobs.client.pages("/v1/models"))
    results = [ended[job_id]["result"] for job_id in jobs.gangs if ended[job_id]["status"] == "succeeded"]
    return {
        "jobs": len(jobs.all),
        "lost": sum(job["status"] != "succeeded" for job in ended.values()),
        "doubled": sum(num_ends[job_id] > 1 or num_models[job_id] > 1 for job_id in jobs.all),
        "gangs": len(jobs.gangs),
        "attempts": [ended[job_id]["attempt"] for job_id in jobs.gangs],
        "equal": sum(_trained(jobs, result) == _trained(jobs, reference["result"]) for result in results),
    }


def _trained(jobs: Jobs, result: JSON) -> tuple[float, Any]:
    """The loss, and the sha256 of the weights."""
    return result["loss"], jobs.client.get_model(result["model_id"])["files"]["encoder.pt"]["sha256"]


def _enter_jobs(ledger: Ledger, outcome: JSON, struck: Struck) -> None:
    attempts = sum(outcome["attempts"])
    of_jobs = f"of {outcome['jobs']}"
    ledger.none("lost_jobs", "no accepted job is lost", outcome["lost"], of=of_jobs)
    ledger.none("doubled_jobs", "no job ends twice, or makes two models", outcome["doubled"], of=of_jobs)
    ledger.none("orphans", "no process outlives its worker, launcher or service", struck.orphans, of="left")
    promise = f"training in {attempts} attempts ends with the weights of an undisturbed one, bit by bit (CPU)"
    of_gangs = f"{outcome['gangs']} of {outcome['gangs']}"
    ledger.same("bit_exact_trainings", promise, of_gangs, f"{outcome['equal']} of {outcome['gangs']}")
    ledger.note(jobs=outcome["jobs"], attempts=outcome["attempts"])


def _enter_recovery(ledger: Ledger, struck: Struck) -> None:
    seconds, lost = struck.recovery_seconds, struck.lost_seconds
    restarted = {fault: seconds[fault] for fault in ("rank", "agent", "worker") if fault in seconds}
    if restarted:
        worst = max(restarted, key=lambda fault: max(restarted[fault]))
        promise = f"a killed job trains again (slowest: {worst})"
        ledger.at_most("restart_seconds", promise, 45, max(restarted[worst]), "s")
        limit = RECIPE["checkpoint_every_seconds"] + STORING_SECONDS
        most = max(max(lost[fault]) for fault in restarted)
        promise = "it loses at most a checkpoint interval (1 s here, and 1 s to store it)"
        ledger.at_most("lost_training_seconds", promise, limit, most, "s")
    if "stop" in seconds:
        drain = max(struck.figures["worker_drain_seconds"])
        ledger.at_most(
            "worker_drain_seconds", "SIGTERM: a worker gives its jobs back and ends", STOP_SECONDS, drain, "s"
        )
        ledger.at_most("lost_by_stop_seconds", "SIGTERM: no training is lost", 0, max(lost["stop"]), "s")
    if "checkpoint" in seconds:
        used = int(sum(struck.figures["damaged_checkpoints_used"]))
        ledger.none(
            "damaged_checkpoints_used", "a damaged checkpoint is noticed, the one before is used", used, of="used"
        )
    if "api" in seconds:
        ledger.at_most("api_ready_seconds", "the API is ready again after kill -9", 8, max(seconds["api"]), "s")
    ledger.note(recovery_seconds=seconds, lost_seconds=lost)


def _enter_away(ledger: Ledger, figures: dict[str, list[float]]) -> None:
    if "accepted_without_redis_seconds" in figures:
        refused = int(sum(figures["jobs_refused_without_redis"]))
        ledger.none("jobs_refused_without_redis", "without Redis a job is accepted", refused, of="refused")
        consuming = max(figures["consuming_seconds"])
        ledger.at_most("consuming_seconds", "it runs soon after Redis is back", 10, consuming, "s")
    if "without_database_seconds" in figures:
        asked, embedded = len(figures["not_503_without_database"]), len(figures["not_embedded_without_database"])
        wrong, failed = sum(figures["not_503_without_database"]), sum(figures["not_embedded_without_database"])
        promise = "without the database, requests get 503 with Retry-After"
        ledger.none("not_503_without_database", promise, int(wrong), of=f"others of {asked}")
        slowest = max(figures["without_database_seconds"])
        ledger.at_most("without_database_seconds", "they get it soon", 2, slowest, "s")
        promise = "without the database, the loaded model embeds"
        ledger.none("not_embedded_without_database", promise, int(failed), of=f"failed of {embedded}")
        again = int(sum(figures["attempts_by_database"]))
        ledger.none("attempts_by_database", "training goes on while the database is away", again, of="restarts")

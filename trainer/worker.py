"""The worker of a node: `python -m trainer.worker`.

One process with three kinds of threads: Celery's, each an agent that supervises a job's process; the node's presence;
and the scheduler, which leads or waits to lead. SIGTERM interrupts the jobs' processes, gives the jobs back and ends.
"""

import os
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from celery import signals

from service.core import tracing
from service.core.log import configure_logging
from service.core.queue import node_queue
from service.core.settings import get_settings
from trainer.host import Host, open_host
from trainer.node import Presence
from trainer.process import COMMANDS
from trainer.scheduler import Scheduler
from trainer.tasks import worker_app


def run_worker(host: Host) -> int:
    """Work until a signal says to stop; the exit code."""

    def stop(**_: Any) -> None:
        host.stopping.set()

    signals.worker_shutting_down.connect(stop)
    signals.setup_logging.connect(_keep_logging)
    app = worker_app(host)
    presence = Presence(host)
    scheduler = Scheduler(host.database.engine, app, host.settings)
    threads = [
        threading.Thread(target=_or_stop(presence.run), name="presence"),
        threading.Thread(target=_or_stop(partial(scheduler.run, host.stopping)), name="scheduler"),
    ]
    worker = app.Worker(
        pool="threads",
        concurrency=sum(presence.columns["slots"].values()),
        hostname=f"simclr@{host.settings.node_name}",
        queues=[node_queue(host.settings.node_name)],
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
    )
    for thread in threads:
        thread.start()
    try:
        worker.start()
    finally:
        host.stopping.set()
        for thread in threads:
            thread.join()
        host.database.close()
    return int(worker.exitcode or 0)


def _or_stop(run: Callable[[], None]) -> Callable[[], None]:
    """`run`, whose failure stops the worker as SIGTERM does: whoever supervises it starts it again."""

    def run_or_stop() -> None:
        try:
            run()
        except BaseException:
            os.kill(os.getpid(), signal.SIGTERM)
            raise

    return run_or_stop


def _keep_logging(**_: Any) -> None:
    """That someone listens to this signal keeps Celery from configuring the logs."""


def main(commands: Mapping[str, Sequence[str]] = COMMANDS) -> int:
    """Run the worker that the settings describe."""
    tracing.start("worker")
    configure_logging()
    return run_worker(open_host(get_settings(), commands))


if __name__ == "__main__":
    raise SystemExit(main())

"""The one Celery task: be the agent of a placement."""

from typing import Any

from celery import Celery
from celery.worker import consumer

from service.core.queue import RUN_PLACEMENT, celery_app
from trainer.agent import Agent
from trainer.host import Host

RECONNECT_SECONDS = 1


class PatientConsumer(consumer.Consumer):  # type: ignore[misc]  # Celery has no types
    """Looks for a broker that is away every second; Celery's own pause grows to half a minute."""

    def ensure_connected(self, conn: Any) -> Any:
        """Connect, however long it takes."""
        steady = {"interval_start": RECONNECT_SECONDS, "interval_step": 0, "interval_max": RECONNECT_SECONDS}
        ensure = conn.ensure_connection
        conn.ensure_connection = lambda *arguments, **options: ensure(*arguments, **options, **steady)
        return super().ensure_connected(conn)


def worker_app(host: Host) -> Celery:
    """The app with the task that runs placements on `host`."""
    app = celery_app(host.settings)
    app.conf.worker_consumer = PatientConsumer

    @app.task(name=RUN_PLACEMENT)  # type: ignore[untyped-decorator]  # Celery has no types
    def run_placement(job_id: str, attempt: int, token: str) -> None:
        Agent(host, job_id, attempt, token).run()

    return app

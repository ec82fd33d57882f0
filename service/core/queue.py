"""The Celery app, without tasks: whoever has the settings can send to it; the worker adds its task.

Celery is the doorbell, the database the truth: a message names a placement row, and a lost, late or doubled message
does no harm. So messages are acknowledged early and never redelivered, and no result is stored.
"""

from celery import Celery

from service.core.settings import Settings

RUN_PLACEMENT = "simclr.run_placement"
WEEK_SECONDS = 7 * 24 * 3600


def node_queue(node_name: str) -> str:
    """The queue that only this node consumes."""
    return f"node.{node_name}"


def celery_app(settings: Settings) -> Celery:
    """The app on the settings' Redis; nothing is connected yet."""
    app = Celery("simclr", broker=settings.redis_url)
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_ignore_result=True,
        task_acks_late=False,
        task_publish_retry=False,  # the row is published again on the next tick
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_max_retries=None,
        broker_connection_retry_on_startup=True,
        broker_transport_options={
            "max_retries": 0,  # of a publisher: without it, a broker that is away blocks it for 6 s
            "visibility_timeout": WEEK_SECONDS,  # redelivery would start a long job twice
            "socket_connect_timeout": 5,
            "socket_timeout": 30,  # a frozen Redis would block for ever without one
            "socket_keepalive": True,
            "health_check_interval": 10,
        },
    )
    return app

"""What Prometheus reads: of this process, and of the jobs and workers that all processes share."""

from importlib.metadata import version

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from service.deps import Services
from service.exposition import CONTENT_TYPE, gauge
from service.fleet_metrics import fleet_metrics
from service.instruments import ALL

router = APIRouter()


@router.get("/metrics", include_in_schema=False)
async def get_metrics(request: Request) -> Response:
    """Metrics in Prometheus' text format; without the database those of the process alone."""
    services: Services = request.app.state.services  # the process's own: the numbers are of all, not of who asks
    fleet = await run_in_threadpool(fleet_metrics, services.database, services.settings.lease_seconds)
    admission = services.embedding.admission
    own = [
        gauge("simclr_info", "The release.", [({"version": version("simclr-service")}, 1)]),
        gauge("simclr_embed_images_in_flight", "Images that are decoded or embedded.", [({}, admission.num_images)]),
        gauge("simclr_embed_wait_seconds", "For how long a request would wait now.", [({}, admission.wait_seconds)]),
    ]
    return Response("".join([*own, *(instrument.render() for instrument in ALL), fleet]), media_type=CONTENT_TYPE)

"""Embeddings of images that are not stored."""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool

from service import bodies
from service.attendance import AttendanceDep, attendance_of
from service.core.errors import Invalid, ServiceError
from service.core.keys import READ
from service.deps import ServicesDep, services_of
from service.embedding import Timings, Vector, check_layer, raise_errors
from service.image_inputs import read_inputs
from service.model_cache import ServedModel
from service.refusals import may
from service.schemas.embeddings import EmbeddingForm, EmbeddingList, EmbeddingOptions, EmbeddingRequest
from service.scopes import requires
from service.vector_formats import ARROW_TYPE, FORMATS, NPY_TYPE, negotiate, to_arrow, to_npy, to_openai


class _Direct(APIRoute):
    """Calls its endpoint without FastAPI's solver of dependencies, which took a quarter of a request's Python."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """What answers a request."""

        async def handle(request: Request) -> Response:
            services = services_of(request)
            return await create_embeddings(request, services, attendance_of(request, services.settings))

        return handle


router = APIRouter(prefix="/v1/embeddings", tags=["search"], route_class=_Direct)

INLINE_IMAGES = 8  # are written in a millisecond: a thread would take as long to get its turn


@router.post(
    "",
    response_model=EmbeddingList,
    responses={**FORMATS, **may(404, 409)},
    openapi_extra=bodies.document(EmbeddingForm, EmbeddingRequest),
)
@requires(READ)
async def create_embeddings(request: Request, services: ServicesDep, attendance: AttendanceDep) -> Response:
    """Embed images: files of a form, or data URIs in OpenAI's shape, so that its clients work.

    `Accept: application/x-npy` gives a NumPy file of an (M, D) float32 array, `application/vnd.apache.arrow.stream` the
    columns index, embedding, error_code and error_message. An image that fails has an `error` in place of its
    embedding; the others are unharmed (`on_error`). Equal files are embedded once: X-Cache-Hits counts those that were
    known. Server-Timing says how many milliseconds went into waiting, decoding and computing, X-Model-Id and
    X-Model-Variant what made the vectors.

    429 if the answer would take too long to come; 503 `deadline_exceeded` if it came later than X-Request-Timeout.
    """
    timings = Timings()
    async with bodies.read_body(request, EmbeddingRequest, EmbeddingForm) as body:
        contents = await read_inputs(body, services.settings.max_images_per_request)
    model = await services.embedding.models.get(services.caller.tenant, body.model)
    _check_dimensions(body, model)
    work = services.embedding.embed_each(contents, model, body.layer, timings)
    outcomes = await attendance.result(work)
    media_type = negotiate(request.headers.get("accept", ""))
    failed = [i for i, outcome in enumerate(outcomes) if isinstance(outcome, ServiceError)]
    on_error = body.on_error or ("refuse" if media_type == NPY_TYPE else "null")
    if on_error == "refuse" or len(failed) == len(outcomes):
        raise_errors(outcomes)
    headers = {**timings.header(), "X-Model-Id": model.row.id, "X-Model-Variant": model.embedder.variant}
    if failed:
        headers["X-Failed-Items"] = ",".join(map(str, failed))
    if len(outcomes) <= INLINE_IMAGES:
        content = _written(outcomes, body, model, media_type)
    else:
        content = await run_in_threadpool(_written, outcomes, body, model, media_type)
    return Response(content, media_type=media_type, headers=headers)


def _check_dimensions(body: EmbeddingOptions, model: ServedModel) -> None:
    check_layer(model, body.layer)
    size = model.embedder.layers[body.layer]
    if body.dimensions not in {None, size}:
        message = f"{size}, the size of this model's {body.layer}, or left out; not {body.dimensions}"
        raise Invalid(f"dimensions: {message}", errors=[{"field": "dimensions", "message": message}])


def _written(
    outcomes: Sequence[Vector | ServiceError], body: EmbeddingOptions, model: ServedModel, media_type: str
) -> bytes:
    size = model.embedder.layers[body.layer]
    if media_type == NPY_TYPE:
        return to_npy(outcomes, size)
    if media_type == ARROW_TYPE:
        return to_arrow(outcomes, size, model_id=model.row.id, layer=body.layer)
    variant = model.embedder.variant
    return to_openai(outcomes, model_id=model.row.id, variant=variant, encoding_format=body.encoding_format)

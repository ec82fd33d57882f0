"""Embeddings of images that are not stored."""

import base64
from io import BytesIO

import numpy as np
from fastapi import APIRouter, Request, Response
from numpy.typing import NDArray

from service import bodies
from service.deps import ServicesDep
from service.embedding import Timings
from service.image_inputs import read_inputs
from service.schemas.embeddings import EmbeddingForm, EmbeddingItem, EmbeddingList, EmbeddingRequest, Usage

router = APIRouter(prefix="/v1/embeddings", tags=["search"])

NPY_TYPE = "application/x-npy"


@router.post(
    "",
    response_model=EmbeddingList,
    responses={200: {"content": {NPY_TYPE: {"schema": {"type": "string", "format": "binary"}}}}},
    openapi_extra=bodies.document(EmbeddingForm, EmbeddingRequest),
)
async def create_embeddings(request: Request, services: ServicesDep) -> Response:
    """Embed images: files of a form, or data URIs in OpenAI's shape.

    With `Accept: application/x-npy`, the answer is a NumPy file of an (M, D) float32 array. The header Server-Timing
    says how many milliseconds went into waiting, decoding and computing; Model-Variant which variant of the model made
    the vectors.
    """
    timings = Timings()
    async with bodies.read_body(request, EmbeddingRequest, EmbeddingForm) as body:
        contents = await read_inputs(body, services.settings.max_images_per_request)
    model = await services.embedding.models.get(body.model)
    vectors = await services.embedding.embed(contents, model, body.layer, timings)
    headers = timings.header() | {"Model-Variant": model.embedder.variant}
    if NPY_TYPE in request.headers.get("accept", ""):
        return Response(_npy(vectors), media_type=NPY_TYPE, headers=headers)
    answer = EmbeddingList(
        data=[
            EmbeddingItem(index=i, embedding=_written(vector, body.encoding_format)) for i, vector in enumerate(vectors)
        ],
        model=model.row.id,
        variant=model.embedder.variant,
        usage=Usage(num_images=len(vectors)),
    )
    return Response(answer.model_dump_json(), media_type="application/json", headers=headers)


def _written(vector: NDArray[np.float32], encoding: str) -> list[float] | str:
    if encoding == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    values: list[float] = vector.tolist()
    return values


def _npy(vectors: NDArray[np.float32]) -> bytes:
    buffer = BytesIO()
    np.save(buffer, vectors)
    return buffer.getvalue()

"""Search by image, by stored images or by vector."""

from fastapi import APIRouter, Request, Response

from service import bodies
from service.attendance import AttendanceDep
from service.deps import ServicesDep
from service.embedding import Timings
from service.schemas.search import BatchResult, Neighbors, SearchForm, SearchRequest
from service.search import Searcher

router = APIRouter(prefix="/v1/search", tags=["search"])


@router.post("", openapi_extra=bodies.document(SearchForm, SearchRequest))
async def search(
    request: Request, services: ServicesDep, response: Response, attendance: AttendanceDep
) -> Neighbors | BatchResult:
    """The images of a collection most like an image, a vector or examples, best first; `results` for a batch.

    Up to 20,000 images in the collection the answer is exact. Beyond, an index finds nearly all neighbours; `exact`
    searches without it. The header X-Model-Variant says which variant of the model embeds queries.
    """
    timings = Timings()
    async with bodies.read_body(request, SearchRequest, SearchForm) as body:
        model = await services.embedding.models.get(body.model)
        searcher = Searcher(services, model, timings)
        if isinstance(body, SearchForm):
            questions = [await attendance.result(searcher.by_file(await body.file.read()))]
        else:
            questions = await attendance.result(searcher.questions(body))
    found = await searcher.answer(questions, body)
    response.headers.update(timings.header() | {"X-Model-Variant": model.embedder.variant})
    is_batch = isinstance(body, SearchRequest) and body.queries is not None
    return BatchResult(results=found) if is_batch else found[0]

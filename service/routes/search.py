"""Search by image, by stored images or by vector."""

from fastapi import APIRouter, Request, Response

from service import bodies
from service.attendance import AttendanceDep
from service.core.keys import READ
from service.deps import ServicesDep
from service.embedding import Timings
from service.refusals import may
from service.schemas.search import BatchResult, Groups, Neighbors, SearchForm, SearchRequest
from service.scopes import requires
from service.search import Question, Searcher

router = APIRouter(prefix="/v1/search", tags=["search"])


@router.post("", responses=may(404, 409), openapi_extra=bodies.document(SearchForm, SearchRequest))
@requires(READ)
async def search(
    request: Request, services: ServicesDep, response: Response, attendance: AttendanceDep
) -> Neighbors | BatchResult | Groups:
    """The images of a collection most like an image, a vector or examples, best first.

    A batch has `results`, a search with `group_by` has `groups`. Scores are cosine similarities. Among up to 20,000
    images, of the collection or that the filter holds for, the answer is exact. Beyond, an index finds nearly all
    neighbours; `exact` searches without it. The header X-Model-Variant says which variant of the model embeds queries.
    """
    timings = Timings()
    async with bodies.read_body(request, SearchRequest, SearchForm) as body:
        model = await services.embedding.models.get(services.caller.tenant, body.model)
        searcher = Searcher(services, model, timings)
        if isinstance(body, SearchForm):
            questions = [await attendance.result(searcher.by_file(await body.file.read()))]
        else:
            questions = await attendance.result(searcher.questions(body))
    found = await _answer(searcher, questions, body)
    response.headers.update(timings.header() | {"X-Model-Variant": model.embedder.variant})
    return found


async def _answer(
    searcher: Searcher, questions: list[Question], body: SearchRequest | SearchForm
) -> Neighbors | BatchResult | Groups:
    if body.group_by:
        return await searcher.answer_in_groups(questions[0], body)
    found = await searcher.answer(questions, body)
    is_batch = isinstance(body, SearchRequest) and body.queries is not None
    return BatchResult(results=found) if is_batch else found[0]

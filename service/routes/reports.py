"""The report of a job: for programs, for people, and as a picture."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from service.core.errors import NotFound
from service.core.keys import READ
from service.deps import DatabaseDep
from service.job_report import read_report
from service.negotiation import preferred
from service.refusals import may
from service.routes.jobs import find_job
from service.schemas.fields import JobId
from service.schemas.reports import Report
from service.scopes import requires

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["jobs"])

JSON, HTML, PNG = "application/json", "text/html", "image/png"
TYPES = {"json": JSON, "html": HTML, "png": PNG}
CONTENT = {
    HTML: {"schema": {"type": "string"}},
    PNG: {"schema": {"type": "string", "format": "binary"}},
}

Format = Annotated[
    Literal["json", "html", "png"] | None,
    Query(alias="format", description="Wins over the Accept header, which a link or an image can't set."),
]


@router.get("/report", response_model=Report, responses={200: {"content": CONTENT}, **may(404)})
@requires(READ)
def get_report(job_id: JobId, request: Request, database: DatabaseDep, chosen: Format = None) -> Response:
    """All of a job in one document, by the Accept header: as JSON, as a page of one file, or as its picture.

    Of an unfinished job, what there is so far. A kind with nothing to draw, and a job that has measured nothing yet,
    have no picture: 404 `no_picture`.
    """
    with database.transaction() as session:
        report = read_report(session, find_job(session, job_id))
    # Out of the transaction, as drawing takes a good part of a second.
    media_type = TYPES[chosen] if chosen else preferred(request.headers.get("accept", ""), [*TYPES.values()])
    return _rendered(report, media_type)


def _rendered(report: Report, media_type: str) -> Response:
    if media_type == JSON:
        return Response(report.model_dump_json(), media_type=JSON, headers={"Vary": "Accept"})
    # matplotlib takes a second to load and 30 MB: not for an API that nobody asks for a report.
    from service.report import html, kinds, picture  # noqa: PLC0415

    fields = report.model_dump(mode="json")
    if media_type == HTML:
        headers = {"Vary": "Accept", "Content-Security-Policy": html.CONTENT_SECURITY_POLICY}
        return Response(html.report_page(fields), media_type=HTML, headers=headers)
    drawn = picture.picture(fields)
    if drawn is None:
        what, have = f"{report.job.kind} job that is {report.job.status}", ", ".join(kinds.PICTURED)
        message = f"a {what} has no picture; jobs of these kinds have one as soon as something is measured: {have}"
        raise NotFound(message, code="no_picture")
    return Response(drawn, media_type=PNG, headers={"Vary": "Accept"})

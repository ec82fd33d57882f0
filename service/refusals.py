"""The refusals that an operation may answer with, as the OpenAPI document tells them.

A route declares those of its own, `responses=may(404, 409)`; the others follow from what the operation is. What is none
of them is a mistake of the service's: 500, with the code `internal`.
"""

from dataclasses import dataclass
from typing import Any

from service.core.errors import (
    BadRequest,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    QuotaExceeded,
    RangeNotSatisfiable,
    ServiceError,
    StorageFull,
    TooLarge,
    Unauthenticated,
    Unavailable,
    UnsupportedMedia,
)
from service.core.keys import READ
from service.problems import MEDIA_TYPE, describe
from service.scopes import Operation

SECONDS = {"description": "Seconds after which it may go better.", "schema": {"type": "integer", "minimum": 1}}


@dataclass(frozen=True)
class Refusal:
    """A status of a refusal: its name in the document, what it means, and one of its kind."""

    name: str
    description: str
    example: ServiceError
    headers: dict[str, Any] | None = None

    def response(self) -> dict[str, Any]:
        """Its part of the document's components."""
        problem = {"schema": {"$ref": "#/components/schemas/Problem"}, "example": describe(self.example).model_dump()}
        headers = {"headers": self.headers} if self.headers else {}
        return {"description": self.description, **headers, "content": {MEDIA_TYPE: problem}}


REFUSALS = {
    400: Refusal("BadRequest", "The body, or a header, can't be read.", BadRequest("the body is not JSON: EOF at 1")),
    401: Refusal(
        "Unauthenticated",
        "A key is needed, and there is none, or none that is valid.",
        Unauthenticated("this needs a key: send the header `Authorization: Bearer sk_…`"),
        {"WWW-Authenticate": {"description": "`Bearer`.", "schema": {"type": "string"}}},
    ),
    403: Refusal(
        "Forbidden",
        "The key is valid, but not for this.",
        Forbidden("this needs a key with the scope `train`; this one has read"),
    ),
    404: Refusal(
        "NotFound",
        "There is no such thing, or it is another tenant's.",
        NotFound("there is no job job_01jcz0000000000000000000jj"),
    ),
    409: Refusal(
        "Conflict",
        "What it is about is in a state, or in use, that forbids it; `code` says which: `in_use`, `name_taken`,"
        " `no_production_model`, `not_indexed`, …",
        Conflict("it serves as production; point that at another model first", code="in_use"),
    ),
    413: Refusal(
        "TooLarge",
        "The body, an image or a number of images is over a limit.",
        TooLarge("300 images in one request; at most 256", code="too_many_images"),
    ),
    415: Refusal(
        "UnsupportedMediaType",
        "The body is of a type that the operation doesn't take.",
        UnsupportedMedia("Content-Type: application/json, not text/plain"),
    ),
    416: Refusal(
        "RangeNotSatisfiable",
        "The file ends before the range that was asked for.",
        RangeNotSatisfiable("the file has 1,024 bytes; there is nothing from byte 2,048 on"),
        {"Content-Range": {"description": "`bytes */` and the file's size.", "schema": {"type": "string"}}},
    ),
    422: Refusal(
        "Invalid",
        "A field, or an image, isn't what it has to be; `errors` names the fields.",
        Invalid(
            "a field is not valid",
            errors=[{"field": "recipe.loss.temperature", "message": "Input should be greater than or equal to 0.001"}],
        ),
    ),
    429: Refusal(
        "TooManyRequests",
        "The key asks too fast (`rate_limited`), the service has as much work as it takes (`busy`), or the tenant as"
        " much as it may have (`quota_exceeded`).",
        QuotaExceeded("the quota jobs is 10 unfinished jobs; this would be over it", retry_after_seconds=60),
        {"Retry-After": SECONDS},
    ),
    503: Refusal(
        "Unavailable",
        "The database, the storage or a model is away, or the answer would come too late (`deadline_exceeded`).",
        Unavailable("the database does not answer; try again in 2 seconds", retry_after_seconds=2),
        {"Retry-After": SECONDS},
    ),
    507: Refusal(
        "StorageFull",
        "There is no space left; nothing was kept.",
        StorageFull("the storage has no space left; delete data or add space, then try again"),
    ),
}


def may(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may refuse with these statuses; `document` says what they mean."""
    return {status: {"description": REFUSALS[status].description} for status in statuses}


def implied(operation: Operation, said: dict[str, Any]) -> set[int]:
    """The statuses that any operation like this one may refuse with."""
    statuses = {401, 403, 429, 503}  # the key, its scope, its rate; the database
    if said.get("parameters"):
        statuses |= {422}
    if "requestBody" in said:
        statuses |= {400, 413, 415, 422}
    if operation.scope != READ:
        statuses |= {507}
    return statuses

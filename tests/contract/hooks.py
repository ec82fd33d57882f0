"""What schemathesis is told of the service: bytes that are images, and the refusals that no schema can foresee."""

import re
from collections.abc import Iterable
from io import BytesIO
from typing import Any

import pyarrow as pa
import schemathesis
from hypothesis import strategies as st
from pyarrow import parquet
from schemathesis import Case, HookContext, Response
from schemathesis.core.failures import AcceptedNegativeData, Failure, ServerError
from schemathesis.openapi.checks import RejectedPositiveData, UndefinedStatusCode

from service.arrow_stream import ARROW, PARQUET
from tests.models.image_files import encode, noise
from tests.service.routes.gallery import id_of, picture

IMAGES = [picture(i) for i in range(4)] + [encode(noise(9, 7), format_) for format_ in ("jpeg", "webp")]

schemathesis.openapi.format("binary", st.sampled_from(IMAGES) | st.binary(max_size=100))


def _table() -> bytes:
    """A file as an export makes it."""
    table = pa.table({"id": [id_of(content) for content in IMAGES[:2]], "label": ["cat", None]})
    buffer = BytesIO()
    parquet.write_table(table, buffer)
    return buffer.getvalue()


schemathesis.openapi.media_type(PARQUET, st.sampled_from([_table(), b"PAR1"]), aliases=[ARROW])

NO_IMAGE = {"undecodable", "unsupported_format", "animated"}
MAX_ADDRESS = 60_000  # bytes; of more the server takes none, and a filter of the schema may have them
FILTERS = "what a filter holds is documented as any object: filters in filters have no end"

JOINT = (  # what a request for a job is told of values that don't go together
    r"at (least|most) \w+ \(.*",
    r"each( at most)? once.*",
    r"a divisor of .*",
    r"give two numbers with 0 < low <= high.*",
    r"for nt_logistic and margin.*",
    r"above 0 with semi_hard.*",
    r"at least one that can change the two views .*",
    r"(with )?the encoder `pixels`.*",
    r"fields of a pretraining recipe .*",
    r"at most \d+ pretraining runs .*",
    r"not the seed.*",
)

# Operation -> the fields, or the codes of errors that name none, for which a valid request is refused with 422 or 413,
# and why its schema can't say so. A pattern is of a field, or of `field: message`.
BEYOND_SCHEMAS: dict[str, dict[str, str]] = {
    name: {r"filter(\..+)?": FILTERS}
    for name in (
        "remove_collection_images",
        "list_duplicates",
        "export_collection",
        "get_map",
        "list_images",
        "get_image_neighbors",
    )
} | {
    "create_job": {
        "dataset_id|model_id|recipe.collection_id": "has to be there",
        rf"(recipe|resources)\.\S+: ({'|'.join(JOINT)})": "values that are allowed, but not with each other",
    },
    "set_alias": {"model_id": "has to be there"},
    "create_key": {"expires_at": "has to be in the future"},
    "create_images": {"labels": "one for each file"},
    "create_embeddings": {
        r"input\.\d+": "what follows the comma is base64",
        "dimensions": "the size of the model's layer",
        "layer": "one that the model exports",
        "layer_not_exported": "one that the model exports",
    },
    "classify_images": {
        r"input\.\d+": "what follows the comma is base64",
        "probe": "a job whose kind leaves a classifier",
    },
    "search": {
        r"filter(\..+)?": FILTERS,
        "|image_id|vector|positive|negative|queries": "one of several, whose sizes are the model's",
        "zero_vector": "a vector of any length but 0",
        r"queries\.\d+\..+": "one of two",
        "group_by|k": "not more than a number together",
    },
    "get_image_embedding": {"layer": "one that the model exports"},
    "export_collection": {"layer": "one that the model exports", r"filter(\..+)?": FILTERS},
    "import_collection": {"unreadable_table": "a body that is a table"},
}


@schemathesis.hook
def before_load_schema(context: HookContext, raw_schema: dict[str, Any]) -> None:
    """Have files be of the strategy above: the document has them as JSON Schema has bytes, not as a format."""
    for path, operations in raw_schema["paths"].items():
        if (
            path != "/v1/search"
        ):  # schemathesis can't combine bytes with the JSON of that form: it sends texts for files
            _note_files(operations)


def _note_files(node: Any) -> None:
    parts = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    if isinstance(node, dict) and node.get("contentMediaType") == "application/octet-stream":
        node["format"] = "binary"
    for part in parts:
        _note_files(part)


@schemathesis.hook
def filter_failure(context: HookContext, failure: Failure, case: Case, response: Response) -> bool:
    """Keep all but the refusals of BEYOND_SCHEMAS, and what schemathesis or its machine has caused itself."""
    if not isinstance(failure, RejectedPositiveData):
        return not _is_our_own(failure, case, response)
    known = BEYOND_SCHEMAS.get(case.operation.definition.raw["operationId"], {})
    problem = response.json()
    if {None, "None", "null"} & set(case.path_parameters.values()):
        return False  # a link led from a thing that has none of what it leads to: a failed file has no id
    if problem["code"] in NO_IMAGE:
        return not _takes_images(case)
    at_fault = [(error["field"], error["message"]) for error in problem["errors"]] or [(problem["code"], "")]
    return not all(_is_known(field, message, known) for field, message in at_fault)


def _is_our_own(failure: Failure, case: Case, response: Response) -> bool:
    if isinstance(failure, UndefinedStatusCode):  # the server's answer: no application has seen such an address
        return len(response.request.url or "") > MAX_ADDRESS and response.status_code == 400
    if isinstance(failure, AcceptedNegativeData):  # a list without members for what is no list leaves out the part
        return case.media_type == "multipart/form-data" and isinstance(case.body, dict) and [] in case.body.values()
    if isinstance(failure, ServerError):  # the client said how long it would wait
        return response.status_code == 503 and response.json()["code"] == "deadline_exceeded"
    return False


def _is_known(field: str, message: str, patterns: Iterable[str]) -> bool:
    return any(re.fullmatch(pattern, text) for pattern in patterns for text in (field, f"{field}: {message}"))


def _takes_images(case: Case) -> bool:
    """Whether a request has images in it, which no schema tells from other bytes."""
    return case.operation.path in {"/v1/embeddings", "/v1/classify", "/v1/search"}

"""The OpenAPI document."""

import re
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema_rs
import pytest
from pydantic import TypeAdapter

from service.app import create_app
from service.core.settings import Settings
from service.problems import Problem
from service.routes.jobs import EXAMPLES
from service.schemas.job_requests import JobRequest

METHODS = ("get", "put", "post", "delete", "patch")


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return create_app(Settings(database_url="postgresql://nobody@localhost/none")).openapi()


@pytest.fixture(scope="module")
def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By operation id."""
    found = [path[method] for path in document["paths"].values() for method in METHODS if method in path]
    by_id = {operation["operationId"]: operation for operation in found}
    assert len(by_id) == len(found)
    return by_id


def references(node: Any) -> Iterator[str]:
    """All $ref below a node."""
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def resolve(document: dict[str, Any], reference: str) -> Any:
    node: Any = document
    for step in reference.removeprefix("#/").split("/"):
        node = node[step]
    return node


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    """No $ref dangles."""
    for reference in set(references(document)):
        assert resolve(document, reference)


def test_every_operation_is_described(document: dict[str, Any], operations: dict[str, dict[str, Any]]) -> None:
    """A plain id, a known tag, a summary and a description."""
    tags = {tag["name"] for tag in document["tags"]}
    for name, operation in operations.items():
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", name)
        assert set(operation["tags"]) <= tags
        assert operation["summary"]
        assert operation["description"], name


def test_every_refusal_is_a_problem(document: dict[str, Any], operations: dict[str, dict[str, Any]]) -> None:
    """All that an operation may refuse with is documented, as one of a dozen problems; and nothing besides."""
    for name, operation in operations.items():
        statuses = {int(status): response for status, response in operation["responses"].items()}  # no `default`
        refusals = {status: response for status, response in statuses.items() if status >= 400}
        assert name in {"get_health", "get_readiness"} or refusals.keys() >= {401, 403, 429, 503}
        assert ("requestBody" in operation) == (refusals.keys() >= {400, 413, 415, 422})
        for status, response in refusals.items():
            if name != "get_readiness":
                (content,) = resolve(document, response["$ref"])["content"].items()
                assert content[0] == "application/problem+json"
                assert Problem.model_validate(content[1]["example"]).status == status


def test_links_fit_their_operations(operations: dict[str, dict[str, Any]]) -> None:
    """Each link names an operation, and path parameters that it has."""
    num_links = 0
    for operation in operations.values():
        for response in operation["responses"].values():
            for link in response.get("links", {}).values():
                parameters = {parameter["name"] for parameter in operations[link["operationId"]]["parameters"]}
                assert set(link["parameters"]) <= parameters
                num_links += 1
    assert num_links > 5


@pytest.mark.parametrize("name", ["create_dataset", "create_job"])
def test_new_things_lead_to_their_operations(operations: dict[str, dict[str, Any]], name: str) -> None:
    """202 documents the Location header and links to what can be done next."""
    response = operations[name]["responses"]["202"]
    assert "Location" in response["headers"]
    assert response["links"]


def test_fields_are_described_where_recipes_are(document: dict[str, Any]) -> None:
    """The recipe of each kind of job is part of the request's schema."""
    schemas = document["components"]["schemas"]
    for kind, recipe in (
        ("PretrainRequest", "PretrainRecipe"),
        ("FinetuneRequest", "FinetuneRecipe"),
        ("LinearProbeRequest", "LinearProbeRecipe"),
        ("KnnProbeRequest", "KnnProbeRecipe"),
        ("LayerSweepRequest", "LayerSweepRecipe"),
        ("TransformProbeRequest", "TransformProbeRecipe"),
        ("IndexRequest", "IndexRecipe"),
    ):
        assert f"#/components/schemas/{recipe}" in set(references(schemas[kind]["properties"]["recipe"]))
    assert schemas["Loss"]["properties"]["temperature"]["description"]


def test_every_json_has_an_example(document: dict[str, Any], operations: dict[str, dict[str, Any]]) -> None:
    """Each operation shows what it is asked and what it answers, as its schemas say; recipes show themselves."""
    num_checked = 0
    for name in operations.keys() - {"get_recipes", "get_health", "get_readiness"}:
        bodies = [operations[name].get("requestBody", {})]
        bodies += [answer for status, answer in operations[name]["responses"].items() if status < "204"]
        for said in [
            body["content"]["application/json"] for body in bodies if "application/json" in body.get("content", {})
        ]:
            examples = [said["example"]] if "example" in said else [one["value"] for one in said["examples"].values()]
            schema = {**said["schema"], "components": document["components"]}
            for example in examples:
                jsonschema_rs.validator_for(schema).validate(example)
                num_checked += 1
    assert num_checked > 50


def test_examples_are_valid() -> None:
    """Each example of a new job is accepted as it stands."""
    for example in EXAMPLES.values():
        TypeAdapter(JobRequest).validate_python(example["value"])


def test_the_document_is_served(api: httpx.Client) -> None:
    """/openapi.json is the document; that /docs shows it is seen in a browser (tests/web)."""
    assert api.get("/openapi.json").json()["info"]["title"] == "simclr-service"

"""Collections as files, over HTTP."""

import io
import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from service import collection_export, collection_import
from service.arrow_stream import ARROW, PARQUET
from service.client import Client
from service.core import vectors
from service.core.db import Database
from service.core.storage import LocalStorage
from service.core.tables import Model
from tests.service.routes.gallery import id_of, picture, pixels_h, upload
from tests.small_models import publish

MEDIA_TYPES = {"parquet": PARQUET, "arrow": ARROW}
CONTENTS = [picture(i) for i in range(7)]
IDS = [id_of(content) for content in CONTENTS]


@pytest.fixture
def model(api: httpx.Client, database: Database, storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> Model:
    """Seven images in `pets`, of which the last has no vector of the model; pages of three rows."""
    monkeypatch.setattr(collection_export, "PAGE_ROWS", 3)
    monkeypatch.setattr(collection_import, "BATCH_ROWS", 3)
    upload(api, CONTENTS[6:], collection="pets", metadata={"n": 6})
    model = publish(database, storage)
    for i in range(6):
        upload(
            api,
            [CONTENTS[i]],
            collection="pets",
            labels=[None if i == 2 else f"label {i}"],
            metadata={"n": i, "é": None},
        )
    return model


def read(content: bytes, form: str) -> pa.Table:
    if form == "arrow":
        return pa.ipc.open_stream(content).read_all()
    return parquet.read_table(io.BytesIO(content))


def written(table: pa.Table, form: str) -> bytes:
    sink = io.BytesIO()
    if form == "arrow":
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    else:
        parquet.write_table(table, sink)
    return sink.getvalue()


def exported(api: httpx.Client, form: str, collection: str = "pets", **query: Any) -> pa.Table:
    response = api.get(f"/v1/collections/{collection}/export", params={"format": form, **query})
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == MEDIA_TYPES[form]
    return read(response.content, form)


def post(api: httpx.Client, content: bytes, form: str, collection: str = "copy") -> httpx.Response:
    headers = {"Content-Type": MEDIA_TYPES[form]}
    return api.post(f"/v1/collections/{collection}/import", content=content, headers=headers)


def members(api: httpx.Client, collection: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = api.get("/v1/images", params={"collection": collection}).json()["items"]
    return items


@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_a_file_has_what_the_collection_says(api: httpx.Client, model: Model, form: str) -> None:
    """Rows in order of id over several pages, vectors bit for bit, null where there is none; a filter leaves a part."""
    table = exported(api, form, layer="h")
    assert table.schema.metadata[b"simclr.model"].decode() == model.id
    rows = table.to_pylist()
    assert [row["id"] for row in rows] == sorted(IDS)
    for row, member in zip(rows, members(api, "pets"), strict=True):
        assert (row["label"], json.loads(row["metadata"]), row["filename"]) == (
            member["label"],
            member["metadata"],
            member["filename"],
        )
        i = IDS.index(row["id"])
        if i == 6:
            assert row["vector"] is None
        else:
            np.testing.assert_allclose(np.sort(row["vector"]), np.sort(pixels_h(CONTENTS[i])), atol=1e-6)
    condition = json.dumps({"op": "range", "field": "metadata.n", "lt": 2})
    part = exported(api, form, filter=condition)
    assert part.schema.names == ["id", "label", "metadata", "filename"]
    assert sorted(part["id"].to_pylist()) == sorted(IDS[:2])


@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_what_went_out_comes_in(api: httpx.Client, database: Database, model: Model, form: str) -> None:
    """Into a new collection, the same; vectors come back to images that lost theirs, and change none that is there."""
    table = exported(api, form, layer="h")
    stored = vectors_table(database, model)
    with database.transaction() as session:
        before = vectors.stored_vectors(session, stored, IDS)
        session.connection().exec_driver_sql(f"delete from {vectors.table_name(stored)}")
        before[IDS[0]] = -before[IDS[0]]  # another one than the file's
        vectors.insert_vectors(session, stored, IDS[:1], before[IDS[0]][None])
    response = post(api, written(table, form), form)
    assert response.json() == {"num_imported": 7, "num_vectors": 5, "num_unknown": 0, "unknown": []}
    assert members(api, "copy") == members(api, "pets")
    with database.transaction() as session:
        after = vectors.stored_vectors(session, stored, IDS)
    assert after.keys() == before.keys()
    for image_id, h in before.items():
        np.testing.assert_array_equal(after[image_id], h)
    assert post(api, written(table, form), form).json()["num_vectors"] == 0


def vectors_table(database: Database, model: Model) -> Any:
    with database.transaction() as session:
        return vectors.find_table(session, model.id, "h")


def test_a_row_replaces_and_an_unknown_image_is_left_out(api: httpx.Client, model: Model) -> None:
    """Label and metadata of the file take the place of the image's; what isn't stored is counted and named."""
    ids = [IDS[0], "0" * 64, IDS[1], "1" * 64]
    table = pa.table({"id": ids, "label": ["new", "x", None, "y"], "metadata": ['{"a": 1}', None, None, None]})
    result = post(api, written(table, "parquet"), "parquet", "pets").json()
    assert result == {"num_imported": 2, "num_vectors": 0, "num_unknown": 2, "unknown": ["0" * 64, "1" * 64]}
    said = {item["id"]: (item["label"], item["metadata"]) for item in members(api, "pets")}
    assert (said[IDS[0]], said[IDS[1]]) == (("new", {"a": 1}), (None, {}))


def with_vector(vector: pa.Array, **metadata: str) -> pa.Table:
    said = {f"simclr.{name}": value for name, value in metadata.items()}
    return pa.table({"id": [IDS[0]], "vector": vector}).replace_schema_metadata(said)


def test_what_is_no_such_file(api: httpx.Client, model: Model) -> None:
    """422 names the column or the row; 415 another type. Nothing is taken from a bad batch."""
    size = 3 * 8 * 8
    right = pa.array([[1.0] * size], pa.list_(pa.float32(), size))
    nan = pa.array([[float("nan")] * size], pa.list_(pa.float32(), size))
    short = pa.array([[1.0]], pa.list_(pa.float32(), 1))
    for table, name in (
        (pa.table({"name": ["x"]}), "id"),
        (pa.table({"id": [*IDS[:4], "../x"]}), "4.id"),
        (pa.table({"id": [IDS[0]], "metadata": ["[1]"]}), "0.metadata"),
        (pa.table({"id": [IDS[0]], "metadata": ["{"]}), "0.metadata"),
        (pa.table({"id": [IDS[0]], "label": ["\0"]}), "0.label"),
        (pa.table({"id": [1]}), "id"),
        (pa.table({"id": IDS[:1], "label": [["a"]]}), "label"),
        (with_vector(right, model="mdl_01jcz0000000000000000000vv", layer="h"), "vector"),
        (with_vector(right, model=model.id, layer="g"), "vector"),
        (with_vector(right), "vector"),
        (with_vector(short, model=model.id, layer="h"), "vector"),
        (with_vector(nan, model=model.id, layer="h"), "0.vector"),
    ):
        response = post(api, written(table, "arrow"), "arrow", "copy")
        assert response.status_code == 422, response.text
        assert [error["field"] for error in response.json()["errors"]] == [name]
    for form in MEDIA_TYPES:
        for content in (b"", b"PAR1 no table", written(pa.table({"id": IDS}), form)[:-40]):
            assert post(api, content, form).json()["code"] == "unreadable_table"
    assert api.post("/v1/collections/copy/import", content=b"x").status_code == 415


def repeated(text: str, number: int, **columns: str) -> pa.Table:
    """Rows that are all alike, which a file has once."""
    values = {"id": text, **columns}
    alike = {
        name: pa.DictionaryArray.from_arrays(np.zeros(number, np.int32), [value]) for name, value in values.items()
    }
    return pa.table(alike)


def test_texts_may_come_in_any_form(api: httpx.Client, model: Model) -> None:
    """As dictionaries, large or plain strings: the same rows."""
    plain = pa.table({"id": IDS[:2], "label": ["x", "x"]})
    dictionary = pa.table(
        {name: column.dictionary_encode() for name, column in zip(plain.column_names, plain.columns, strict=True)}
    )
    large = plain.cast(pa.schema([("id", pa.large_string()), ("label", pa.large_string())]))
    for name, table in (("plain", plain), ("dictionary", dictionary), ("large", large)):
        for form in MEDIA_TYPES:
            response = post(api, written(table, form), form, f"{name}-{form}")
            assert response.json()["num_imported"] == 2, response.text
            assert [item["label"] for item in members(api, f"{name}-{form}")] == ["x", "x"]


def peak_bytes() -> int:
    """The most memory that this process, the API in it, has had since `peak_from_here`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


def peak_from_here() -> int:
    """Forget the peak so far; the memory that the process has."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak_bytes()


@pytest.mark.parametrize(
    ("number", "label_bytes", "limit"),
    [
        (2_000_000, 1, "more rows than ids fit in the file"),
        (3, 24_000_000, "3 rows take more than 67,108,864 bytes"),
        (1, 560_000_000, "takes more than 536,870,912 bytes of memory"),
    ],
    ids=["rows", "batch", "memory"],
)
def test_a_small_file_that_unpacks_to_much_is_refused(
    api: httpx.Client, model: Model, number: int, label_bytes: int, limit: str
) -> None:
    """413 names the limit: of rows, of the bytes of a batch, or of memory; the API itself never has it in memory."""
    sink = io.BytesIO()
    parquet.write_table(
        repeated(IDS[0], number, label="x" * label_bytes), sink, compression="zstd", write_statistics=False
    )
    content = sink.getvalue()
    assert len(content) < 100_000
    before = peak_from_here()
    response = post(api, content, "parquet", "bombs")
    assert (response.status_code, response.json()["code"]) == (413, "too_large"), response.text
    assert limit in response.json()["detail"]
    assert peak_bytes() - before < 50_000_000


def test_the_client_moves_files(api: httpx.Client, model: Model, tmp_path: Path) -> None:
    """By the name of the file: Parquet, or an Arrow stream."""
    with Client(str(api.base_url)) as client:
        for name in ("pets.parquet", "pets.arrow"):
            form = name.partition(".")[2]
            client.export_collection("pets", tmp_path / name, format=form, layer="h")
            assert client.import_collection(f"from-{form}", tmp_path / name)["num_imported"] == 7

"""From files to vectors with a real model, and which model that is."""

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
from numpy.typing import NDArray
from sqlalchemy.exc import OperationalError

from models.embedder import Embedder
from models.preprocess import ImageLimits, decode
from service.core.db import Database
from service.core.errors import Conflict, Invalid, NotFound, ServiceError, TooLarge, Unavailable, Undecodable
from service.core.settings import Settings
from service.core.storage import LocalStorage
from service.core.tables import DEFAULT_TENANT, Alias, Model
from service.embedding import Embedding, Timings
from service.model_cache import MEMORY_FACTOR
from service.model_names import ModelNames, Name
from tests.models.image_files import encode, noise
from tests.small_models import publish

Result = TypeVar("Result")
LIMITS = ImageLimits(max_bytes=10**7, max_pixels=10**7, max_side=10**4)


def with_embedding(
    database: Database, storage: LocalStorage, use: Callable[[Embedding], Awaitable[Result]], **settings: object
) -> Result:
    """What `use` returns, given the whole way from files to vectors in an event loop of its own."""

    async def run() -> Result:
        fields = {
            "data_dir": Path("unused"),
            "num_ort_threads": 1,
            "num_decoders": 1,
            "max_image_pixels": 1000,
            "result_cache_bytes": 0,
        }
        async with Embedding(Settings.model_validate({**fields, **settings}), database, storage) as embedding:
            return await use(embedding)

    return asyncio.run(run())


def test_h_of_pixels_is_the_image(database: Database, storage: LocalStorage) -> None:
    """With the encoder `pixels`, h holds the pixels of the decoded file, scaled to [0, 1], in some order."""
    publish(database, storage)
    content = encode(noise(8, 8), "png")

    async def use(embedding: Embedding) -> list[float]:
        vectors = await embedding.embed([content], await embedding.models.get(DEFAULT_TENANT), "h", Timings())
        return sorted(vectors[0].tolist())

    expected = np.sort(decode(content, LIMITS).pixels.ravel() / 255)
    np.testing.assert_allclose(with_embedding(database, storage, use), expected, atol=1e-6)


def test_company_in_a_batch_changes_nothing(database: Database, storage: LocalStorage) -> None:
    """An image alone and among 80 others, in any place, has the same vector (cosine over 0.999999)."""
    publish(database, storage, encoder="resnet10", side=16)
    contents = [encode(noise(16, 16, seed=i), "png") for i in range(81)]

    async def use(embedding: Embedding) -> list[float]:
        model = await embedding.models.get(DEFAULT_TENANT)
        together = await embedding.embed(contents, model, "h", Timings())
        cosines = []
        for i in (0, 40, 80):
            alone = (await embedding.embed([contents[i]], model, "h", Timings()))[0]
            cosines.append(alone @ together[i] / np.linalg.norm(alone) / np.linalg.norm(together[i]))
        return cosines

    assert min(with_embedding(database, storage, use)) > 0.999999


def test_refused_files_are_named(database: Database, storage: LocalStorage) -> None:
    """The first refused file gives the error its kind; each has its position and reason."""
    publish(database, storage)
    good = encode(noise(8, 8), "png")

    async def use(embedding: Embedding) -> None:
        model = await embedding.models.get(DEFAULT_TENANT)
        with pytest.raises(Undecodable) as caught:
            await embedding.embed([good, b"", good, encode(noise(50, 50), "png")], model, "h", Timings())
        assert [error["field"] for error in caught.value.errors] == ["1", "3"]
        with pytest.raises(TooLarge):
            await embedding.embed([encode(noise(50, 50), "png")], model, "h", Timings())
        with pytest.raises(Invalid, match="one of h, g1, z, not y"):
            await embedding.embed([good], model, "y", Timings())

    with_embedding(database, storage, use)


def test_the_stages_are_timed(database: Database, storage: LocalStorage) -> None:
    """Server-Timing names the stages in milliseconds; they add up to no more than the total."""
    publish(database, storage)

    async def use(embedding: Embedding) -> str:
        model = await embedding.models.get(DEFAULT_TENANT)
        timings = Timings()
        await embedding.embed([encode(noise(8, 8), "png")], model, "h", timings)
        return timings.header()["Server-Timing"]

    stages = dict(part.split(";dur=") for part in with_embedding(database, storage, use).split(", "))
    assert list(stages) == ["turn", "decode", "queue", "compute", "total"]
    *parts, total = (float(value) for value in stages.values())
    assert 0 < sum(parts) <= total + 0.2  # they are rounded to 0.1
    assert float(stages["decode"]) > 0


def test_no_more_is_decoded_and_computed_than_there_are_cores(
    database: Database, storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of six requests on two cores, one of which was computed on both."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: {0, 1})
    monkeypatch.setattr("service.cores.DECODING_SECONDS", 300)
    monkeypatch.setattr("service.batcher.SMALL_SECONDS", 0)
    publish(database, storage)
    free: list[int] = []
    lanes: list[bool] = []

    async def use(embedding: Embedding) -> None:
        model = await embedding.models.get(DEFAULT_TENANT)
        embed, cores = model.embedder.embed, embedding._cores

        def embed_noting(images: NDArray[np.uint8], layer: str, *, in_lane: bool) -> NDArray[np.float32]:
            lanes.append(in_lane)
            free.append(cores.num_free)
            return embed(images, layer, in_lane=in_lane)

        monkeypatch.setattr(model.embedder, "embed", embed_noting)
        contents = [encode(noise(8, 8, seed=i), "png") for i in range(7)]
        await embedding.embed([contents.pop()], model, "h", Timings())
        await asyncio.gather(*(embedding.embed([content], model, "h", Timings()) for content in contents))

    with_embedding(database, storage, use, num_decoders=2, num_ort_threads=2)
    assert not lanes[0]
    assert any(lanes[1:])
    assert set(free) <= {0, 1}


def test_no_production_model(database: Database, storage: LocalStorage) -> None:
    """Without one, the default is a conflict that says what to do; an unknown name is not found."""

    async def use(embedding: Embedding) -> None:
        with pytest.raises(Conflict, match="PUT /v1/aliases/production") as caught:
            await embedding.models.get(DEFAULT_TENANT)
        assert caught.value.code == "no_production_model"
        with pytest.raises(NotFound):
            await embedding.models.get(DEFAULT_TENANT, "staging")

    with_embedding(database, storage, use)


def test_a_switch_counts_from_the_next_request(database: Database, storage: LocalStorage) -> None:
    """The alias is looked up each time; an id names its model whatever the alias serves."""
    first = publish(database, storage)

    async def use(embedding: Embedding) -> list[str]:
        served = [(await embedding.models.get(DEFAULT_TENANT)).row.id]
        second = publish(database, storage)
        served += [(await embedding.models.get(DEFAULT_TENANT, name)).row.id for name in (None, first.id, second.id)]
        assert second.id != first.id
        return [{first.id: "first", second.id: "second"}[id_] for id_ in served]

    assert with_embedding(database, storage, use) == ["first", "second", "first", "second"]


def test_look_ups_are_shared_and_never_stale(
    database: Database, storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests that come while a name is looked up share one look-up, which sees a switch that was made before them."""
    first, second = (publish(database, storage, alias=alias).id for alias in ("production", None))

    async def use(embedding: Embedding) -> list[str]:
        await embedding.models.preload(DEFAULT_TENANT, second)
        looks, may_answer, looked = [], asyncio.Event(), asyncio.Event()
        resolve = embedding.models._resolve

        async def look(name: Name) -> Model | None:
            row = await resolve(name)
            looks.append(name)
            looked.set()
            await may_answer.wait()
            return row

        monkeypatch.setattr(embedding.models, "_resolve", look)
        before = asyncio.create_task(embedding.models.get(DEFAULT_TENANT))
        await looked.wait()
        with database.transaction() as session:
            session.merge(Alias(tenant=DEFAULT_TENANT, name="production", model_id=second))
        after = [asyncio.create_task(embedding.models.get(DEFAULT_TENANT)) for _ in range(20)]
        await asyncio.sleep(0)
        may_answer.set()
        served = [(await task).row.id for task in (before, *after)]
        assert len(looks) == 2
        return served

    assert with_embedding(database, storage, use) == [first, *[second] * 20]


def test_a_row_is_read_when_it_has_changed(database: Database, storage: LocalStorage) -> None:
    """What a probe or an export writes into a model's row is seen by the next request; an unchanged row is the same."""
    model = publish(database, storage)

    async def use(embedding: Embedding) -> list[bool]:
        first, second = [await embedding.models.get(DEFAULT_TENANT) for _ in range(2)]
        with database.transaction() as session:
            session.get_one(Model, model.id).probes = {"linear_probe": {"top1": 0.5}}
        row = await embedding.models._resolve(Name(DEFAULT_TENANT, model.id))
        return [first.row is second.row, row is not None and row.probes == {"linear_probe": {"top1": 0.5}}]

    assert with_embedding(database, storage, use) == [True, True]


def test_the_least_recently_used_model_leaves(database: Database, storage: LocalStorage) -> None:
    """As many models stay loaded as the budget holds, and many requests at once load a model once."""
    models = [publish(database, storage, alias=None) for _ in range(3)]
    ids = [model.id for model in models]
    budget = int(2.5 * MEMORY_FACTOR * models[0].files["model.onnx"]["num_bytes"])

    async def use(embedding: Embedding) -> list[bool]:
        first, second = [
            (await asyncio.gather(*(embedding.models.get(DEFAULT_TENANT, id_) for _ in range(5)))) for id_ in ids[:2]
        ]
        assert all(len({id(served) for served in five}) == 1 for five in (first, second))
        await embedding.models.get(DEFAULT_TENANT, ids[0])
        await embedding.models.get(DEFAULT_TENANT, ids[2])  # in place of the second
        return [
            (await embedding.models.get(DEFAULT_TENANT, ids[0])) is first[0],
            (await embedding.models.get(DEFAULT_TENANT, ids[1])) is second[0],
        ]

    assert with_embedding(database, storage, use, model_cache_bytes=budget) == [True, False]


def test_a_model_over_the_budget_serves(database: Database, storage: LocalStorage) -> None:
    """A model that alone is larger than the budget stays as long as it is the one in use."""
    id_ = publish(database, storage).id

    async def use(embedding: Embedding) -> bool:
        return (await embedding.models.get(DEFAULT_TENANT)) is (await embedding.models.get(DEFAULT_TENANT, id_))

    assert with_embedding(database, storage, use, model_cache_bytes=1)


def test_production_is_loaded_at_the_start(
    database: Database, storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first request finds the model in production loaded and warm: nothing reads its file any more."""
    publish(database, storage)

    async def use(embedding: Embedding) -> None:
        monkeypatch.delattr(embedding.models, "_storage")
        await embedding.models.get(DEFAULT_TENANT)

    with_embedding(database, storage, use)


def test_a_model_that_fails_its_canary_does_not_serve(
    database: Database, storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole to the bit, but of vectors that aren't finite: unavailable to a request, a conflict to a switch."""
    publish(database, storage)
    monkeypatch.setattr(Embedder, "embed", lambda self, images, **_options: np.full((len(images), 192), np.nan))

    async def use(embedding: Embedding) -> None:
        with pytest.raises(Unavailable, match="h: not finite") as caught:
            await embedding.models.get(DEFAULT_TENANT)
        assert caught.value.code == "canary_failed"
        with pytest.raises(Conflict, match="h: not finite"):
            await embedding.models.preload(DEFAULT_TENANT, "production")

    with_embedding(database, storage, use)


def test_a_known_image_is_neither_decoded_nor_computed(
    database: Database, storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second time, the same bytes, model and layer give the same vector from memory; another layer is another."""
    publish(database, storage)
    contents = [encode(noise(8, 8, seed=i), "png") for i in range(3)]

    async def use(embedding: Embedding) -> None:
        model = await embedding.models.get(DEFAULT_TENANT)
        first = await embedding.embed(contents, model, "h", Timings())
        with monkeypatch.context() as without:
            without.setattr(embedding.decoding, "decode_all", None)
            timings = Timings()
            again = await embedding.embed(contents[::-1], model, "h", timings)
        assert timings.header()["X-Cache-Hits"] == "3"
        np.testing.assert_array_equal(again, first[::-1])
        timings = Timings()
        z = await embedding.embed([*contents, encode(noise(8, 8, seed=3), "png")], model, "z", timings)
        assert (z.shape, timings.num_cached) == ((4, 4), 0)

    with_embedding(database, storage, use, result_cache_bytes=10**6)


def test_a_switch_never_answers_from_the_model_before(database: Database, storage: LocalStorage) -> None:
    """The same image under two models has two vectors, whatever is in memory."""
    publish(database, storage, encoder="resnet10", side=16)
    content = encode(noise(16, 16), "png")

    async def use(embedding: Embedding) -> list[int]:
        sizes = []
        for encoder in ("resnet10", "pixels", "resnet10"):
            publish(database, storage, encoder=encoder, side=16)
            model = await embedding.models.get(DEFAULT_TENANT)
            sizes.append(len((await embedding.embed([content], model, "h", Timings()))[0]))
        return sizes

    few, pixels, again = with_embedding(database, storage, use, result_cache_bytes=10**6)
    assert (pixels, again) == (16 * 16 * 3, few)
    assert few != pixels


def test_one_bad_image_fails_alone(database: Database, storage: LocalStorage) -> None:
    """Each image has its vector or its own error, in order."""
    publish(database, storage)
    good = encode(noise(8, 8), "png")

    async def use(embedding: Embedding) -> list[str]:
        outcomes = await embedding.embed_each(
            [good, b"x", good, encode(noise(50, 50), "png")], await embedding.models.get(DEFAULT_TENANT), "h", Timings()
        )
        return [outcome.code if isinstance(outcome, ServiceError) else "" for outcome in outcomes]

    assert with_embedding(database, storage, use) == ["", "unsupported_format", "", "too_large"]


def test_a_damaged_file_is_not_loaded(database: Database, storage: LocalStorage) -> None:
    """One flipped bit in storage makes the model unavailable."""
    model = publish(database, storage)
    path = storage.root / model.files["model.onnx"]["key"]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)

    async def use(embedding: Embedding) -> str:
        with pytest.raises(Unavailable) as caught:
            await embedding.models.get(DEFAULT_TENANT)
        return caught.value.code

    assert with_embedding(database, storage, use) == "model_damaged"


def test_production_serves_without_a_database(
    database: Database, storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the database is away, the last production model embeds; what was never looked up fails as the database."""
    model = publish(database, storage)
    away = Database("postgresql://nobody@127.0.0.1:1/none")

    async def use(embedding: Embedding) -> str:
        await embedding.models.get(DEFAULT_TENANT)
        await embedding.models.close()
        embedding.models._names = ModelNames(away.engine)
        served = await embedding.models.get(DEFAULT_TENANT)
        await embedding.embed([encode(noise(8, 8), "png")], served, "h", Timings())
        with pytest.raises(OperationalError):
            await embedding.models.get(DEFAULT_TENANT, "staging")
        return served.row.id

    assert with_embedding(database, storage, use) == model.id


def test_a_database_that_hangs_holds_up_no_loaded_model(
    database: Database, storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a moment without an answer the last production model embeds; a database that is back is asked again."""
    monkeypatch.setattr("service.model_cache.LOOK_UP_SECONDS", 0.05)
    model, other = publish(database, storage), publish(database, storage, alias=None)

    async def use(embedding: Embedding) -> list[str]:
        resolve, thawed = embedding.models._resolve, asyncio.Event()

        async def hang(name: Name) -> Model | None:
            await thawed.wait()
            return await resolve(name)

        served = [await embedding.models.get(DEFAULT_TENANT)]
        monkeypatch.setattr(embedding.models, "_resolve", hang)
        served += await asyncio.gather(*(embedding.models.get(DEFAULT_TENANT) for _ in range(3)))
        with database.transaction() as session:
            session.merge(Alias(tenant=DEFAULT_TENANT, name="production", model_id=other.id))
        thawed.set()
        monkeypatch.setattr("service.model_cache.LOOK_UP_SECONDS", 20)
        served.append(await embedding.models.get(DEFAULT_TENANT))
        return [one.row.id for one in served]

    assert with_embedding(database, storage, use) == [model.id] * 4 + [other.id]


def test_what_leaves_the_cache_leaves_memory(database: Database, storage: LocalStorage) -> None:
    """A model that an alias served last is gone once another needs its room, however many aliases there are."""
    publish(database, storage, alias="first")
    publish(database, storage, alias="second")

    async def use(embedding: Embedding) -> bool:
        first = weakref.ref(await embedding.models.get(DEFAULT_TENANT, "first"))
        await embedding.models.get(DEFAULT_TENANT, "second")
        gc.collect()
        return first() is None

    assert with_embedding(database, storage, use, model_cache_bytes=1)


def test_an_alias_that_is_gone_serves_nothing(database: Database, storage: LocalStorage) -> None:
    """An alias that was deleted is not served from memory."""
    publish(database, storage)

    async def use(embedding: Embedding) -> None:
        await embedding.models.get(DEFAULT_TENANT)
        with database.transaction() as session:
            session.delete(session.get_one(Alias, (DEFAULT_TENANT, "production")))
        with pytest.raises(Conflict):
            await embedding.models.get(DEFAULT_TENANT)

    with_embedding(database, storage, use)


@pytest.mark.parametrize(("wanted", "served"), [("float32", "float32"), ("int8", "int8"), ("float16", "float32")])
def test_the_setting_chooses_the_variant(database: Database, storage: LocalStorage, wanted: str, served: str) -> None:
    """What is published of a model is served where the setting names it, else float32; any layer by the same file."""
    publish(database, storage, encoder="resnet10", side=16, variants=("int8",))
    content = encode(noise(16, 16, seed=1), "png")

    async def use(embedding: Embedding) -> tuple[str, float]:
        model = await embedding.models.get(DEFAULT_TENANT)
        for layer, size in model.row.layers.items():
            assert (await embedding.embed([content], model, layer, Timings())).shape == (1, size)
        return model.embedder.variant, float((await embedding.embed([content], model, "h", Timings()))[0].sum())

    variant, total = with_embedding(database, storage, use, variant=wanted)
    _, in_float32 = with_embedding(database, storage, use)
    assert variant == served
    assert (total == in_float32) == (served == "float32")


def test_a_model_that_was_exported_anew_is_opened_anew(database: Database, storage: LocalStorage) -> None:
    """The next request after an export job is served by the new file."""
    model = publish(database, storage, encoder="resnet10", side=16, variants=("int8",))

    async def use(embedding: Embedding) -> tuple[str, str]:
        before = await embedding.models.get(DEFAULT_TENANT)
        with database.transaction() as session:
            row = session.get_one(Model, model.id)
            row.files = {"model.onnx": row.files["model.onnx"]}  # the new one has no int8
        return before.embedder.variant, (await embedding.models.get(DEFAULT_TENANT)).embedder.variant

    assert with_embedding(database, storage, use, variant="int8") == ("int8", "float32")

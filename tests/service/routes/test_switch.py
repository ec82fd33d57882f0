"""A new model is indexed and switched to while searches and uploads go on."""

import random
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np

from models.config import IndexRecipe
from service.core import jobs, vectors
from service.core.db import Database
from service.core.settings import Settings
from service.core.storage import LocalStorage
from service.core.tables import Model
from tests.service.routes.gallery import id_of, picture, upload
from tests.small_models import publish
from tests.waiting import wait_until
from trainer.index import Attempt, Indexer
from trainer.run import RunFolder, RunSpec

NUM_BEFORE, K = 200, 10


class Answer(NamedTuple):
    """A search: what was asked, which images were acknowledged before, and what came back."""

    image_id: str
    known: frozenset[str]
    found: dict[str, Any]


class Traffic:
    """Searches and uploads in threads, until it is told to stop."""

    def __init__(self, api: httpx.Client) -> None:
        self._api = api
        self.stopped = threading.Event()
        self.known: set[str] = set()
        self.answers: list[Answer] = []
        self._seeds = iter(range(NUM_BEFORE, 10_000))

    def search(self, seed: int) -> None:
        draw = random.Random(seed)
        while not self.stopped.is_set():
            known = frozenset(self.known.copy())
            image_id = draw.choice(sorted(known))
            response = self._api.post("/v1/search", json={"collection": "pets", "image_id": image_id, "k": K})
            assert response.status_code == 200, response.text
            self.answers.append(Answer(image_id, known, response.json()))

    def upload(self) -> None:
        while not self.stopped.is_set():
            content = picture(next(self._seeds))
            (item,) = upload(self._api, [content], collection="pets")
            assert item["status"] == "created"
            self.known.add(item["id"])


def stored(database: Database, model: Model, ids: set[str]) -> dict[str, np.ndarray[Any, Any]]:
    with database.transaction() as session:
        table = vectors.find_table(session, model.id, "h")
        assert table is not None
        found = vectors.stored_vectors(session, table, ids)
    return {image_id: h / np.linalg.norm(h) for image_id, h in found.items()}


def check(answer: Answer, units: dict[str, np.ndarray[Any, Any]]) -> None:
    """Its scores are the cosines by that model, and no acknowledged image that is nearer than the last is missing."""
    items = answer.found["items"]
    query = units[answer.image_id]
    scores = {item["id"]: item["score"] for item in items}
    for image_id, score in scores.items():
        assert abs(float(units[image_id] @ query) - score) < 1e-5
    assert len(items) == K
    missing = answer.known - scores.keys() - {answer.image_id}
    nearer = [id_ for id_ in missing if float(units[id_] @ query) > items[-1]["score"] + 1e-5]
    assert nearer == [], f"{len(nearer)} of {len(answer.known)} were not found by {answer.found['model']}"


def test_searches_and_uploads_go_on_while_a_model_is_switched(
    api: httpx.Client, api_settings: Settings, database: Database, storage: LocalStorage, tmp_path: Path
) -> None:
    """Every answer is one model's, complete: the old one's until the switch, the new one's after; so is a roll-back."""
    old = publish(database, storage)
    traffic = Traffic(api)
    for start in range(0, NUM_BEFORE, 100):
        upload(api, [picture(i) for i in range(start, start + 100)], collection="pets")
    traffic.known.update(id_of(picture(i)) for i in range(NUM_BEFORE))
    new = publish(database, storage, side=12, alias=None)
    run = RunFolder(tmp_path / "run")
    recipe = IndexRecipe(batch_size=32, promote_to="production")
    run.create(RunSpec(kind="index", recipe=recipe.model_dump()))
    with database.transaction() as session:
        job = jobs.start(session, jobs.submit(session, kind="index", recipe=recipe.model_dump(), model_id=new.id))
    with ThreadPoolExecutor(3) as pool:
        threads = [pool.submit(traffic.search, seed) for seed in range(2)] + [pool.submit(traffic.upload)]
        try:
            wait_for(lambda: len(traffic.answers) >= 10, threads)
            Indexer(api_settings, database, storage, run).index(new.id, Attempt(job.id, job.attempt))
            switched_at = len(traffic.answers)
            wait_for(lambda: len(traffic.answers) >= switched_at + 20, threads)
        finally:
            traffic.stopped.set()
        for thread in threads:
            thread.result()
    by_model = {model.id: stored(database, model, traffic.known) for model in (old, new)}
    assert by_model[new.id].keys() == traffic.known
    for answer in traffic.answers:
        check(answer, by_model[answer.found["model"]])
    models = [answer.found["model"] for answer in traffic.answers]
    assert models[0] == old.id
    assert models[-1] == new.id
    assert api.post("/v1/aliases/production/rollback").json()["model_id"] == old.id
    image_id = id_of(picture(0))
    back = api.post("/v1/search", json={"collection": "pets", "image_id": image_id, "k": K}).json()
    assert back["model"] == old.id
    check(Answer(image_id, frozenset(by_model[old.id]), back), by_model[old.id])


def wait_for(condition: Callable[[], bool], threads: list[Future[None]]) -> None:
    """As `wait_until`, and fail at once when a thread has."""

    def is_over() -> bool:
        for thread in threads:
            if thread.done():
                thread.result()
        return condition()

    wait_until(is_over, timeout_seconds=60)

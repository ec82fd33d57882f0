"""The API on a free port, with a real database, Redis and storage."""

import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from sqlalchemy.orm import Session

from service.app import create_app
from service.core import jobs
from service.core.db import Database
from service.core.ids import new_id
from service.core.settings import Settings
from service.core.storage import Storage
from service.core.tables import DEFAULT_TENANT, Dataset, Image, Job, Model
from service.shedding import Shedding
from tests.waiting import wait_until


@contextmanager
def serving(settings: Settings) -> Iterator[str]:
    """Run the API; its address."""
    with serving_app(create_app(settings)) as url:
        yield url


@contextmanager
def serving_app(app: FastAPI) -> Iterator[str]:
    """Run an application that the test looks into; its address."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, http=Shedding, log_level="warning", lifespan="on"))
    listener = server.config.bind_socket()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive(), timeout_seconds=60)
        host, port = listener.getsockname()
        yield f"http://{host}:{port}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()  # which a server that never started didn't


@pytest.fixture
def database(database: Database) -> Database:  # the outer one
    """The database as the API sees it where no keys are required: all is of one tenant."""
    return database.of(DEFAULT_TENANT)


@pytest.fixture(scope="session")
def api_settings(server_folder: Path, postgres_url: str, redis_url: str) -> Settings:
    """Settings with limits that a test reaches quickly, and without keys."""
    return Settings(
        data_dir=server_folder / "api",
        database_url=postgres_url,
        redis_url=redis_url,
        max_archive_bytes=1_000_000,
        max_request_bytes=500_000,
        auth="off",
    )


@pytest.fixture(scope="session")
def api_url(api_settings: Settings) -> Iterator[str]:
    """A running API; tests that write use `api`, which has the database emptied afterwards."""
    with serving(api_settings) as url:
        yield url


@pytest.fixture
def api(api_url: str, database: Database) -> Iterator[httpx.Client]:
    """A client of the running API."""
    with httpx.Client(base_url=api_url, timeout=30) as client:
        yield client


def add_dataset(session: Session, **columns: object) -> Dataset:
    """A data set of two classes with 100 training images, ready unless said otherwise."""
    fields = {
        "id": new_id("ds"),
        "name": "pets",
        "status": "ready",
        "on_invalid": "reject",
        "archive_name": "pets.zip",
        "archive_key": "datasets/none/archive",
        "archive_sha256": "0" * 64,
        "num_images": 100,
        "num_duplicates": 0,
        "num_rejected": 0,
        "classes": ["cat", "dog"],
        "splits": {"train": {"num_images": 100, "per_class": [50, 50]}},
        "image_sizes": {"min": [32, 32], "median": [32, 32], "max": [32, 32]},
        "files": {},
    }
    dataset = Dataset(**{**fields, **columns})
    session.add(dataset)
    session.flush()
    return dataset


def add_model(session: Session, **columns: object) -> Model:
    """A model without files."""
    fields = {
        "id": new_id("mdl"),
        "recipe": {"seed": 0},
        "preprocessing": {"image_size": 32},
        "layers": {"h": 8, "z": 4},
        "parity_cosine": 0.99999,
        "files": {},
    }
    model = Model(**{**fields, **columns})
    session.add(model)
    session.flush()
    return model


def publish_model(session: Session, storage: Storage, files: dict[str, bytes]) -> Model:
    """A model with these files in storage."""
    model = add_model(session)
    model.files = {
        name: {
            "key": f"models/{model.id}/{name}",
            "sha256": hashlib.sha256(content).hexdigest(),
            "num_bytes": len(content),
        }
        for name, content in files.items()
    }
    for name, content in files.items():
        storage.put(f"models/{model.id}/{name}", content)
    return model


def add_image(session: Session) -> Image:
    """An image that nobody looks into."""
    image = Image(id=os.urandom(32).hex(), key="none", format="png", width=8, height=8, num_bytes=1)
    session.add(image)
    session.flush()
    return image


def begin(session: Session, job_id: str) -> Job:
    """Play the scheduler: start the job's next attempt."""
    return jobs.start(session, session.get_one(Job, job_id, with_for_update=True))


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """The address of an S3-compatible storage without buckets, that keeps them in memory."""
    from moto.server import ThreadedMotoServer  # noqa: PLC0415  # it takes a second, and few tests need it

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()

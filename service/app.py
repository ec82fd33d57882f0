"""The HTTP API: `uvicorn --factory service.app:create_app`."""

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.middleware.cors import CORSMiddleware

from service import openapi, problems
from service.audit import Audit
from service.authentication import Authentication
from service.caller import NOBODY
from service.classifiers import ClassifierCache
from service.content_types import ContentTypes
from service.core import tracing
from service.core.db import Database
from service.core.settings import Settings, get_settings
from service.core.storage import LocalStorage, open_storage
from service.deps import Services
from service.embedding import Embedding
from service.head_requests import HeadRequests
from service.headers import SecurityHeaders
from service.keyring import Keyring
from service.limits import BodyLimit
from service.memory import give_back_large_blocks
from service.request_ids import RequestIds
from service.request_metrics import RequestMetrics
from service.request_traces import RequestTraces
from service.routes import (
    aliases,
    analysis,
    audit,
    classify,
    collection_images,
    collections,
    datasets,
    embeddings,
    images,
    job_history,
    jobs,
    keys,
    metrics,
    models,
    page,
    recipes,
    reports,
    search,
    system,
    transfer,
)
from service.scopes import Operations
from service.shedding import STATE, Door

ROUTERS: tuple[APIRouter, ...] = (  # they are tried one by one: the busiest come first
    embeddings.router,
    search.router,
    datasets.router,
    jobs.router,
    job_history.router,
    reports.router,
    recipes.router,
    models.router,
    aliases.router,
    images.router,
    collections.router,
    collection_images.router,
    analysis.router,
    transfer.router,
    classify.router,
    keys.router,
    audit.router,
    system.router,
    page.router,
    metrics.router,
)

DESCRIPTION = """
Upload images, pretrain SimCLR on them, measure the representation with probes, export it, serve it, search with it.

Where keys are required, a request carries one as `Authorization: Bearer sk_…`, with the scope that its operation names
(`x-scope`).

Errors are `application/problem+json` (RFC 9457) with a stable `code`. Each operation lists the statuses with which it
may refuse; a path that isn't any is 404, a method that a path doesn't take 405 with `Allow`. Lists are pages: `items`
and `next`, which is the `cursor` of the following page, or null after the last.
"""


def _spare_the_collector() -> None:
    """Have the garbage collector pass over what lives as long as the process: 0.1 s in every request that met it.

    And have it look at the young after 10,000 new objects, not 700, which is several times in each request.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application, by default with the settings of the environment; it connects when it starts."""
    settings = settings or get_settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        give_back_large_blocks()
        # The rest is for what runs already: the embedded PostgreSQL stops where it can't write, and with it all reads.
        storage = open_storage(settings, min_free_bytes=settings.min_free_bytes)
        if isinstance(storage, LocalStorage):
            storage.sweep()
        with closing(Database(settings.database_url)) as database:
            async with Embedding(settings, database, storage) as embedding:
                app.state.services = Services(
                    settings=settings,
                    database=database,
                    storage=storage,
                    embedding=embedding,
                    classifiers=ClassifierCache(database, storage),
                    keyring=Keyring(settings, database),
                    audit=Audit(database),
                    caller=NOBODY,
                )
                _spare_the_collector()
                yield {STATE: Door(embedding.admission, settings.cors_origins)}

    app = FastAPI(
        title="simclr-service",
        version=version("simclr-service"),
        description=DESCRIPTION,
        lifespan=lifespan,
        generate_unique_id_function=lambda route: route.name,
        openapi_tags=openapi.TAGS,
        redirect_slashes=False,  # to an address made of the header Host; /v1/jobs/ is nothing
        docs_url=None,  # a page of our own: Swagger UI comes from a content delivery network
        redoc_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # we have our own, and each request paid for it
    )
    operations = Operations(ROUTERS)
    app.openapi = lambda: openapi.document(app, operations)  # type: ignore[method-assign]  # FastAPI's documented way
    problems.add_handlers(app, operations)
    for router in ROUTERS:
        app.include_router(router)
    _add_middleware(app, settings, operations)
    return app


def _add_middleware(app: FastAPI, settings: Settings, operations: Operations) -> None:
    """From the innermost to the outermost, which sees a request first and its response last."""
    app.add_middleware(BodyLimit, settings=settings)
    app.add_middleware(ContentTypes)
    app.add_middleware(Authentication, settings=settings, operations=operations)
    app.add_middleware(problems.Boundary)
    if settings.cors_origins:  # a preflight comes without a key, and its answer is not ours to refuse
        methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=methods,
            allow_headers=["*"],
            expose_headers=["*"],
        )
    if tracing.is_on():
        app.add_middleware(RequestTraces)
    app.add_middleware(RequestIds)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(RequestMetrics)
    app.add_middleware(HeadRequests)

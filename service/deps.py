"""What a route asks for in its signature: the process's services as its caller sees them, and a transaction."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy.orm import Session

from service.audit import Audit
from service.caller import Caller
from service.classifiers import ClassifierCache
from service.core.db import Database
from service.core.settings import Settings
from service.core.storage import Storage
from service.embedding import Embedding
from service.keyring import Keyring


@dataclass(frozen=True)
class Services:
    """What a request may use, its database bound to its caller's tenant.

    `app.state.services` (service/app.py) is what these are made of, with nobody as the caller and an unbound database.
    """

    settings: Settings
    database: Database
    storage: Storage
    embedding: Embedding
    classifiers: ClassifierCache
    keyring: Keyring
    audit: Audit
    caller: Caller

    def of(self, caller: Caller) -> "Services":
        """The same services for a caller."""
        return replace(self, database=self.database.of(caller.tenant), caller=caller)


def services_of(request: Request) -> Services:
    """The services as the request's caller sees them."""
    services: Services = request.app.state.services
    return services.of(request.state.caller)


async def _services(request: Request) -> Services:
    return services_of(request)


ServicesDep = Annotated[Services, Depends(_services)]


async def _settings(services: ServicesDep) -> Settings:
    return services.settings


async def _storage(services: ServicesDep) -> Storage:
    return services.storage


async def _embedding(services: ServicesDep) -> Embedding:
    return services.embedding


async def _database(services: ServicesDep) -> Database:
    return services.database


async def _caller(services: ServicesDep) -> Caller:
    return services.caller


def _session(database: Annotated[Database, Depends(_database)]) -> Iterator[Session]:
    with database.transaction() as session:
        yield session


SettingsDep = Annotated[Settings, Depends(_settings)]
StorageDep = Annotated[Storage, Depends(_storage)]
EmbeddingDep = Annotated[Embedding, Depends(_embedding)]
CallerDep = Annotated[Caller, Depends(_caller)]

# For a handler that must do something outside its transaction, or stream.
DatabaseDep = Annotated[Database, Depends(_database)]

# One transaction a request. With the scope `function` it commits after the handler returned and before a byte of the
# response is sent: who reads 201 or 202 finds the row, and a commit that fails is an error, not a success.
SessionDep = Annotated[Session, Depends(_session, scope="function")]

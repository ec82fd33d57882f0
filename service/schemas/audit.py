"""The audit log as JSON."""

from datetime import datetime

from pydantic import Field

from service.schemas.fields import FromRow


class AuditEntryOut(FromRow):
    """A change that was asked for, and what came of it."""

    id: int
    at: datetime
    key_id: str | None = Field(description="Null where keys were not required.")
    action: str = Field(description="The operation's id in the OpenAPI document.")
    resource: str = Field(description="Its path; of what was made, the new thing's.")
    request_id: str = Field(description="The answer's X-Request-Id, which the service's own log has too.")
    status: int = Field(description="Of the answer: a success, 401 or 403.")

"""Every error that the service answers with, each with its HTTP status and stable code.

ServiceError
├── BadRequest           400  bad_request
├── Unauthenticated      401  unauthenticated
├── Forbidden            403  forbidden
├── NotFound             404  not_found, no_picture
├── Conflict             409  conflict
├── TooLarge             413  too_large
├── UnsupportedMedia     415  unsupported_media_type
├── RangeNotSatisfiable  416  range_not_satisfiable
├── Invalid              422  invalid
│   └── Undecodable      422  undecodable
├── Busy                 429  busy
├── RateLimited          429  rate_limited
├── QuotaExceeded        429  quota_exceeded
├── ClientGone           499  client_gone
├── Unavailable          503  unavailable
│   └── DeadlineExceeded 503  deadline_exceeded
└── StorageFull          507  storage_full

One handler (service/problems.py) renders them as RFC 9457 problem+json; routes don't catch.
"""

from typing import Any


class ServiceError(Exception):
    """A request can't be served; `detail` says what was wrong, which value, and what would be accepted."""

    status = 500
    code = "internal"
    title = "Internal error"

    def __init__(
        self,
        detail: str,
        *,
        code: str | None = None,
        errors: list[dict[str, Any]] | None = None,
        retry_after_seconds: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code or type(self).code
        self.errors = errors or []
        self.retry_after_seconds = retry_after_seconds


class BadRequest(ServiceError):
    """The request can't be parsed."""

    status, code, title = 400, "bad_request", "Bad request"


class Unauthenticated(ServiceError):
    """The request has no key, or one that isn't valid."""

    status, code, title = 401, "unauthenticated", "Unauthenticated"


class Forbidden(ServiceError):
    """The key is valid, but not for this."""

    status, code, title = 403, "forbidden", "Forbidden"


class NotFound(ServiceError):
    """There is no such thing."""

    status, code, title = 404, "not_found", "Not found"


class Conflict(ServiceError):
    """The thing is in a state, or in use, that forbids the request."""

    status, code, title = 409, "conflict", "Conflict"


class TooLarge(ServiceError):
    """An upload, image or archive is over a limit."""

    status, code, title = 413, "too_large", "Too large"


class UnsupportedMedia(ServiceError):
    """The body is of a type that the operation doesn't take."""

    status, code, title = 415, "unsupported_media_type", "Unsupported media type"


class RangeNotSatisfiable(ServiceError):
    """A file ends before the range that is asked for."""

    status, code, title = 416, "range_not_satisfiable", "Range not satisfiable"


class Invalid(ServiceError):
    """A field has a value that isn't allowed."""

    status, code, title = 422, "invalid", "Invalid request"


class Undecodable(Invalid):
    """The bytes are no image that the service reads."""

    code, title = "undecodable", "Undecodable image"


class Busy(ServiceError):
    """The service has as much work as it takes at once."""

    status, code, title = 429, "busy", "Busy"


class RateLimited(ServiceError):
    """The key has made too many requests in the last seconds."""

    status, code, title = 429, "rate_limited", "Rate limited"


class QuotaExceeded(ServiceError):
    """The tenant has as much of something as it may have."""

    status, code, title = 429, "quota_exceeded", "Quota exceeded"


class ClientGone(ServiceError):
    """The client has closed its connection: nobody reads this, but the log does."""

    status, code, title = 499, "client_gone", "Client gone"


class Unavailable(ServiceError):
    """Something the service depends on is away."""

    status, code, title = 503, "unavailable", "Unavailable"


class DeadlineExceeded(Unavailable):
    """The answer would come later than its client waits for it."""

    code, title = "deadline_exceeded", "Deadline exceeded"


class StorageFull(ServiceError):
    """No space is left to store the upload; nothing of it was kept."""

    status, code, title = 507, "storage_full", "Storage full"

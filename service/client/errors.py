"""What goes wrong between a client and the service.

ApiError    the service answered with a problem
JobFailed   a job, or a data set, that was waited for ended without success

No answer at all is an httpx.TransportError.
"""

import httpx

PROBLEM = "application/problem+json"


class ApiError(Exception):
    """The service answered with a problem; `code` is stable, the text says what to do."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(f"{detail} ({status} {code})")
        self.status = status
        self.code = code
        self.detail = detail


class JobFailed(Exception):
    """A job that was waited for ended without success."""


def raise_for_problem(response: httpx.Response) -> None:
    """Raises ApiError unless the response is a success."""
    if response.is_success:
        return
    if response.headers.get("content-type", "").startswith(PROBLEM):
        problem = response.json()
        fields = "; ".join(f"{error['field']}: {error['message']}" for error in problem.get("errors", []))
        detail = f"{problem['detail']}: {fields}" if fields else problem["detail"]
        raise ApiError(response.status_code, problem["code"], detail)
    raise ApiError(response.status_code, "unknown", response.text[:500])

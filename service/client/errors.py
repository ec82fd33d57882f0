"""What goes wrong between a client and the service.

ApiError    the service answered with a problem
JobFailed   a job, or a data set, that was waited for ended without success

No answer at all is an httpx.TransportError.
"""

from collections.abc import Mapping

import httpx

PROBLEM = "application/problem+json"


class ApiError(Exception):
    """The service answered with a problem; `code` is stable, the text says what to do.

    `errors` has a message for each field at fault, such as `recipe.batch_size`, or the position of an image.
    """

    def __init__(self, status: int, code: str, detail: str, errors: Mapping[str, str] | None = None) -> None:
        self.errors = dict(errors or {})
        said = {message for message in self.errors.values() if f": {detail}".endswith(f": {message}")}
        unsaid = {field: message for field, message in self.errors.items() if message not in said}
        fields = "; ".join(f"{field}: {message}" for field, message in unsaid.items())
        self.detail = f"{detail}: {fields}" if fields else detail
        super().__init__(f"{self.detail} ({status} {code})")
        self.status = status
        self.code = code


class JobFailed(Exception):
    """A job that was waited for ended without success."""


def raise_for_problem(response: httpx.Response) -> None:
    """Raises ApiError unless the response is a success."""
    if response.is_success:
        return
    if response.headers.get("content-type", "").startswith(PROBLEM):
        problem = response.json()
        errors = {error["field"]: error["message"] for error in problem.get("errors", [])}
        raise ApiError(response.status_code, problem["code"], problem["detail"], errors)
    raise ApiError(response.status_code, "unknown", response.text[:500])

"""`simclr datasets add` says what became of the archive."""

import io
from collections.abc import Iterator
from typing import Any

import pytest
from rich.console import Console

from service.client import JobFailed
from service.commands import datasets, output


class Client:
    """A service that rejected a file, and with it all of the archive or not."""

    def __init__(self, *, has_failed: bool) -> None:
        self.has_failed = has_failed

    def wait_for_dataset(self, dataset_id: str, _on_progress: Any) -> Any:
        if self.has_failed:
            raise JobFailed("data set ds_1 failed")
        return {"id": dataset_id, "status": "ready"}

    def pages(self, path: str) -> Iterator[Any]:
        assert path == "/v1/datasets/ds_1/rejected"
        return iter([{"name": "[a]/bad.jpg", "detail": "not a JPEG"}] * 100)


@pytest.mark.parametrize("has_failed", [False, True])
def test_rejected_files_are_listed(monkeypatch: pytest.MonkeyPatch, has_failed: bool) -> None:  # noqa: FBT001
    """Whether the data set is ready without them or failed; the first of them."""
    file = io.StringIO()
    monkeypatch.setattr(output, "console", Console(file=file, width=200))
    client: Any = Client(has_failed=has_failed)
    if has_failed:
        with pytest.raises(JobFailed):
            datasets._watch(client, "ds_1")
    else:
        assert datasets._watch(client, "ds_1")["status"] == "ready"
    assert file.getvalue().count("Rejected: [a]/bad.jpg: not a JPEG") == datasets.SHOWN_REJECTIONS

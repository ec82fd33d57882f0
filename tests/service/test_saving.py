"""Files that a command leaves behind."""

from pathlib import Path

import pytest

from service.saving import write_whole


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    """The new content in place of the old, and nothing beside it."""
    path = tmp_path / "report.html"
    for content in (b"old and long", b"new"):
        write_whole(path, content)
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """A folder that isn't there."""
    path = tmp_path / "none" / "report.html"
    with pytest.raises(ValueError, match=r"none/report\.html: can't be written: No such file or directory"):
        write_whole(path, b"")

"""Settings are documented where people look for them, and refuse what they can't use."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from service.core.settings import Settings

ENV_EXAMPLE = Path(__file__).parents[3] / ".env.example"


def test_the_example_lists_every_setting() -> None:
    """.env.example names each setting once and no other."""
    listed = re.findall(r"^#?\s?SIMCLR_([A-Z_]+)=", ENV_EXAMPLE.read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(name.upper() for name in Settings.model_fields)


def test_every_setting_says_what_it_is() -> None:
    """Each field has a description."""
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_the_environment_sets_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """SIMCLR_MAX_IMAGE_BYTES reaches max_image_bytes."""
    monkeypatch.setenv("SIMCLR_MAX_IMAGE_BYTES", "123")
    assert Settings().max_image_bytes == 123


@pytest.mark.parametrize(
    ("field", "url"), [("database_url", "mysql://x"), ("redis_url", "http://x"), ("storage_url", "gs://bucket")]
)
def test_urls_of_unknown_kinds_are_refused(field: str, url: str) -> None:
    """The message names the field and the schemes that it takes."""
    with pytest.raises(ValidationError, match=f"{field}: starts with"):
        Settings.model_validate({field: url})


def test_what_belongs_to_others_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A .env may hold other programs' variables, and the client commands' own; ours are read from it."""
    monkeypatch.chdir(tmp_path)
    Path(".env").write_text("AWS_REGION=eu-central-1\nSIMCLR_URL=http://simclr:8000\nSIMCLR_MAX_ATTEMPTS=7\n")
    assert Settings().max_attempts == 7


@pytest.mark.parametrize("place", ["environment", "file"])
def test_a_name_that_is_no_setting_is_pointed_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """A misspelt SIMCLR_* is refused by name, wherever it is."""
    monkeypatch.chdir(tmp_path)
    if place == "environment":
        monkeypatch.setenv("SIMCLR_MAX_ATEMPTS", "7")
    else:
        Path(".env").write_text("SIMCLR_MAX_ATEMPTS=7\n")
    with pytest.raises(ValidationError, match="no setting is called SIMCLR_MAX_ATEMPTS"):
        Settings()

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

"""Lists on a terminal and in a pipe."""

import io

import pytest
from rich.console import Console

from service.commands import output
from service.commands.output import ID_WIDTH, Column, show_list
from service.core.ids import new_id

COLUMNS = [Column("id", "id", ID_WIDTH), Column("name", "name")]


def shown(monkeypatch: pytest.MonkeyPatch, items: list[dict[str, str]], *, is_terminal: bool) -> str:
    file = io.StringIO()
    console = Console(file=file, width=80, force_terminal=is_terminal, color_system=None)
    monkeypatch.setattr(output, "console", console)
    show_list(iter(items), COLUMNS, len(items))
    return file.getvalue()


def test_an_id_is_never_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside a long name, which takes several lines on a terminal and one in a pipe."""
    item = {"id": new_id("job"), "name": "~" * 100}
    on_terminal = shown(monkeypatch, [item], is_terminal=True)
    assert item["id"] in on_terminal
    assert on_terminal.count("~") == 100
    assert "~" * 100 in shown(monkeypatch, [item], is_terminal=False)


@pytest.mark.parametrize("name", ["x[/lab]", "[bold]", "[red]first[bold].jpg"])
def test_names_are_no_markup(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """They are shown as they are."""
    assert name in shown(monkeypatch, [{"id": new_id("ds"), "name": name}], is_terminal=False)

"""Every command and snippet of the README and the documents, executed; exceptions.py has those that aren't."""

import hashlib
import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from string import Template
from typing import Any

import pytest
from typer.testing import CliRunner

from service.cli import app
from service.client import ApiError, Client
from service.core.tables import ENDED
from tests.docs.answers import as_json, shape
from tests.docs.exceptions import EXCEPTIONS
from tests.docs.pages import PAGES, ROOT, Command, commands, name_of, snippets, words
from tests.stack import Stack

LOCAL = "http://127.0.0.1:8000"
ASSIGNMENT = re.compile(r"(?:export )?([A-Z_]+)=(.+)", re.DOTALL)
PLAIN = re.compile(r"simclr [^|>;&`]*$|simclr .*--(?:recipe|filter|resources) '[^']*'.*", re.DOTALL)
MAKE = re.compile(r"\bmake ([a-z][a-z0-9]*)((?: [A-Z_]+=\S+)*)")
MAKEFILE = (ROOT / "Makefile").read_text()
STARTS_JOBS = ("simclr jobs start", "curl -s -H 'Idempotency-Key", "curl -s http://127.0.0.1:8000/v1/jobs ")


def exception(command: Command) -> str | None:
    """How an exception begins that a command is, if it is one."""
    return next((start for start in EXCEPTIONS if command.line.startswith(start)), None)


WITH_COMMANDS = [page for page in PAGES if any(not exception(one) for one in commands(page))]


class Reader:
    """Somebody who types what a page says, on a machine where the service is at `url`."""

    def __init__(self, url: str, names: dict[str, str]) -> None:
        self.url = url
        self.names = names  # variables of the shell

    def type_(self, line: str) -> str:
        """Run a command; what it prints. It must succeed."""
        if match := ASSIGNMENT.fullmatch(line):
            self.names[match[1]] = self._bash(f"printf %s {match[2]}")
            return ""
        return self._simclr(line) if PLAIN.fullmatch(line) else self._bash(line)

    def _simclr(self, line: str) -> str:
        arguments = [Template(word).safe_substitute(self.names) for word in words(line)[1:]]
        if arguments[:2] == ["jobs", "start"]:
            arguments.append("--no-watch")  # it is cancelled at once
        result = CliRunner().invoke(app, _globbed(arguments))
        assert result.exit_code == 0, f"{line}\n{result.output}"
        return result.output

    def _bash(self, line: str) -> str:
        line = line.replace(LOCAL, self.url).replace("curl ", "curl --write-out '%{stderr} status %{http_code}' ")
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", line],
            env={**os.environ, **self.names, "PATH": path, "SIMCLR_URL": self.url},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stderr}"
        assert " status 5" not in done.stderr, f"{line}\n{done.stdout}"
        answer = as_json(done.stdout) or {}
        is_problem = isinstance(answer, dict) and "code" in answer and "status" in answer
        assert is_problem is (" status 4" in done.stderr), f"{line}\n{done.stdout}"
        return done.stdout


def _globbed(arguments: list[str]) -> list[str]:
    """As a shell would have it."""
    return [path for one in arguments for path in (sorted(map(str, Path().glob(one))) if "*" in one else [one])]


def cancel_jobs(client: Client) -> None:
    """What was queued for a page's sake need not run."""
    for job in client.pages("/v1/jobs", limit=10):
        if job["status"] in ENDED or job["kind"] == "ingest":
            continue
        with suppress(ApiError):  # it has ended meanwhile
            client.request("POST", f"/v1/jobs/{job['id']}/cancel")


@pytest.fixture
def reader(clean_stack: Stack, ids: dict[str, str], workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Reader:
    """In a folder with photographs; $IMAGE is the id of query.jpg."""
    monkeypatch.setenv("SIMCLR_URL", clean_stack.base_url)
    image_id = hashlib.sha256((workplace / "query.jpg").read_bytes()).hexdigest()
    return Reader(clean_stack.base_url, {**ids, "IMAGE": image_id})


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=name_of)
def test_the_commands_of_a_page_work(reader: Reader, page: Path) -> None:
    """In the page's order; where it prints JSON, the answer has the same keys and types."""
    with Client(reader.url) as client:
        for command in commands(page):
            if exception(command):
                continue
            answer = reader.type_(command.line)
            if command.line.startswith(STARTS_JOBS):
                cancel_jobs(client)
            expected = as_json(command.printed)
            if expected is not None:
                assert shape(as_json(answer)) == shape(expected), command.line


@pytest.mark.parametrize("page", [page for page in PAGES if "```python" in page.read_text()], ids=name_of)
def test_the_python_of_a_page_runs(reader: Reader, page: Path) -> None:
    """Its snippets, one after the other."""
    if page.name == "searching.md":
        reader.type_("simclr images add photos/ --collection pets")
    names: dict[str, Any] = {}
    for snippet in snippets(page):
        if snippet.language == "python":
            exec(snippet.text.replace(LOCAL, reader.url), names)


def test_each_exception_is_one() -> None:
    """None is left whose command is gone."""
    used = {exception(command) for page in PAGES for command in commands(page)}
    assert EXCEPTIONS.keys() == used - {None}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_what_a_page_has_made_can_be_made(page: Path) -> None:
    """Targets and variables of `make` are the Makefile's."""
    for target, variables in MAKE.findall("\n".join(_code(page))):
        assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE), target
        for name in re.findall(r"([A-Z_]+)=", variables):
            assert re.search(rf"^{name} [?:]=", MAKEFILE, re.MULTILINE), name


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_program_of_the_benchmarks_takes_what_is_given(page: Path) -> None:
    """Its file is there, and knows the options."""
    for line in _code(page):
        for file, options in re.findall(r"python (benchmarks/\w+\.py)([^`\n]*)", line):
            text = (ROOT / file).read_text()
            assert all(option in text for option in re.findall(r"--[a-z-]+", options)), line


def _code(page: Path) -> list[str]:
    """What stands in a page as code, in a line of text or in a block of commands."""
    text = page.read_text()
    in_blocks = (re.split(r"\s+#", one.line)[0] for one in commands(page))
    return [*re.findall(r"`([^`\n]+)`", text), *in_blocks]


def test_links_of_the_readme_lead_somewhere() -> None:
    """To files of this repository; those of the documents are checked when the site is built."""
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", (ROOT / "README.md").read_text())
    assert len(links) > 5
    assert [link for link in links if not (ROOT / link).exists()] == []


@pytest.mark.parametrize(
    ("printed", "answer", "is_alike"),
    [
        ('{"a": 1, "b": [{"c": null}]}', '{"b": [{"c": null}, {"c": null}], "a": 2.5}', True),
        ('{"a": 1}', '{"a": "1"}', False),
        ('{"a": 1}', '{"a": 1, "b": 1}', False),
        ('{"a": []}', '{"a": [1]}', False),
        ('{"a": true}', '{"a": false}', False),
    ],
)
def test_answers_are_compared_by_keys_and_types(printed: str, answer: str, is_alike: object) -> None:
    """Values may differ, but for true, false and null."""
    assert (shape(as_json(printed)) == shape(as_json(answer))) is is_alike

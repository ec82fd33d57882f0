"""docker/Dockerfile: what goes into the images, and as whom they run."""

import json
import re
import tomllib
from fnmatch import fnmatch

import pytest

from tests.docker.compose import ROOT
from tests.docker.dockerfile import inherited, stages

IMAGES = ["api", "worker"]
PIN = re.compile(r"^([a-z0-9._-]+)==(\S+)", re.MULTILINE)


def pins(path: str) -> set[tuple[str, str]]:
    """The pinned packages of a lock, (name, version)."""
    return set(PIN.findall((ROOT / path).read_text()))


def test_bases_are_a_version_or_a_stage() -> None:
    """No base changes by itself beyond its patch releases of Debian."""
    for stage in stages().values():
        assert stage.base in stages() or re.fullmatch(r"python:3\.11\.\d+-slim-\w+", stage.base), stage.base


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_runs_as_nobody_special_and_takes_signals(image: str) -> None:
    """A fixed user before the command; exec forms, so that SIGTERM reaches Python and not a shell."""
    steps = inherited(image)
    names = [name for name, _ in steps]
    assert dict(steps)["USER"] == "10001:10001"
    assert names.index("USER") < names.index("CMD")
    assert "RUN" not in names[names.index("USER") :]
    assert dict(steps)["STOPSIGNAL"] == "SIGTERM"
    assert json.loads(dict(steps)["ENTRYPOINT"]) == ["simclr"]
    assert json.loads(dict(steps)["CMD"])[0] == image


def test_the_health_check_asks_where_the_api_listens() -> None:
    """One port in EXPOSE, the command and the check."""
    steps = dict(inherited("api"))
    command = json.loads(steps["CMD"])
    port = command[command.index("--port") + 1]
    assert steps["EXPOSE"] == port
    assert f"http://127.0.0.1:{port}/healthz" in steps["HEALTHCHECK"]
    json.loads(steps["HEALTHCHECK"].partition(" CMD ")[2])


def test_what_is_copied_exists_and_is_sent() -> None:
    """Every source of COPY is in the tree, and .dockerignore lets it through."""
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for stage in stages().values():
        assert not stage.all("ADD")  # it unpacks, and fetches from the network
        for arguments in stage.all("COPY"):
            if arguments.startswith("--from="):
                assert arguments.split()[0].removeprefix("--from=") in stages()
                continue
            for source in arguments.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert any(fnmatch(source, pattern) for pattern in allowed), source


def test_what_is_installed_is_pinned() -> None:
    """Python packages by hash or from our own wheel; Debian's without recommendations, and without their lists."""
    runs = [command for stage in stages().values() for command in stage.all("RUN")]
    for command in runs:
        for install in re.findall(r"pip install [^&]*", command):
            assert "--no-cache-dir" in install
            assert "--require-hashes" in install or "--no-index" in install
        if "apt-get install" in command:
            assert "--no-install-recommends" in command
            assert command.endswith("rm -rf /var/lib/apt/lists/*")


@pytest.mark.parametrize("image", [*IMAGES, "build"])
def test_the_locks_of_the_images_are_parts_of_the_projects(image: str) -> None:
    """The same versions as the tests run with; no address of an index."""
    path = f"docker/requirements-{image}.lock"
    assert pins(path) <= pins("requirements.lock")
    assert "://" not in (ROOT / path).read_text()


def test_pytorch_is_in_the_workers_image_only() -> None:
    """Every dependency of the project is in both; of training only the worker's has any."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {re.split(r"[\[>=]", line)[0] for line in project["dependencies"]}
    training = {re.split(r"[\[>=]", line)[0] for line in project["optional-dependencies"]["train"]}
    api, worker = ({name for name, _ in pins(f"docker/requirements-{image}.lock")} for image in IMAGES)
    assert needed <= api <= worker
    assert training <= worker
    assert not training & api

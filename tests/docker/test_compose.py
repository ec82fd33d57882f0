"""docker-compose.yml says what the service, its images and its settings are; no engine is needed to see it."""

import ipaddress
import json
import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from service.cli import GRACEFUL_SHUTDOWN_SECONDS, app
from service.core.settings import Settings
from tests.docker.compose import FILE, PASSWORDS, ROOT, compose, filled_in, mounts, services
from tests.docker.dockerfile import inherited, stages
from trainer.agent import INTERRUPT_SECONDS

OURS = [name for name, service in services().items() if "build" in service]
ONCE = ["migrate", "bucket"]
VERSION = re.compile(r"^[a-z0-9./-]+:v?\d+(\.\d+)+(-[a-z0-9.]+)?$")


def has_healthcheck(name: str) -> bool:
    service = services()[name]
    if "healthcheck" in service:
        return not service["healthcheck"].get("disable", False)
    return "build" in service and any(step == "HEALTHCHECK" for step, _ in inherited(service["build"]["target"]))


def seconds(text: str) -> int:
    assert text.endswith("s")
    return int(text[:-1])


def put_into_environment(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], folder: Path) -> None:
    """Make these the only settings there are."""
    for name in [name for name in os.environ if name.startswith("SIMCLR_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(folder)  # away from any .env
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("name", services())
def test_images_are_versions(name: str) -> None:
    """Tomorrow's pull is today's: each image has a version for its tag; our own are built from a stage that exists."""
    service = services()[name]
    assert VERSION.match(service["image"]), service["image"]
    if "build" in service:
        assert (ROOT / service["build"]["dockerfile"]).is_file()
        assert service["build"]["target"] in stages()


@pytest.mark.parametrize("name", services())
def test_services_come_back_and_say_how_they_are(name: str) -> None:
    """Each is started again when it ends; each that others wait for, or that answers, has a health check."""
    service = services()[name]
    assert service["restart"] == ("on-failure:5" if name in ONCE else "unless-stopped")
    assert has_healthcheck(name) is not (name in ONCE or name.startswith("worker"))


@pytest.mark.parametrize("name", services())
def test_what_a_service_waits_for_comes(name: str) -> None:
    """It waits for health where there is a check, and for the end of what ends."""
    for other, wait in services()[name].get("depends_on", {}).items():
        assert other in services()
        assert wait["condition"] == ("service_completed_successfully" if other in ONCE else "service_healthy")
        assert other in ONCE or has_healthcheck(other)


@pytest.mark.parametrize("name", ["proxy", "prometheus", "grafana", *OURS])
def test_no_privileges_are_left(name: str) -> None:
    """Read-only, no capabilities, none to be gained; our images run as a fixed user that isn't root."""
    service = services()[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    if name in OURS:
        steps = dict(inherited(service["build"]["target"]))
        assert int(steps["USER"].split(":")[0]) > 0


def test_files_volumes_and_networks_exist_and_are_used() -> None:
    """Every mounted file is in the tree; every volume and network that is declared has a user, and the other way."""
    files = {source for _, source, _ in mounts() if source.startswith("./")}
    assert all((ROOT / source).exists() for source in files)
    assert {source for _, source, _ in mounts()} - files == set(compose()["volumes"])
    assert {network for service in services().values() for network in service["networks"]} == set(compose()["networks"])


def test_only_the_proxy_and_grafana_are_reachable_and_from_this_machine_alone() -> None:
    """Everything else is in a network without a way in or out."""
    assert compose()["networks"]["inside"] == {"internal": True}
    published = {name: service["ports"] for name, service in services().items() if "ports" in service}
    assert {name for name, s in services().items() if s["networks"] != ["inside"]} == set(published)
    assert set(published) == {"proxy", "grafana"}
    for ports in published.values():
        assert all(ipaddress.ip_address(port.split(":")[0]).is_loopback for port in ports)


@pytest.mark.parametrize("name", ["api", "worker", "worker-gpu"])
def test_replicas_do_not_get_in_each_others_way(name: str) -> None:
    """`--scale` works: no fixed name, no published port."""
    assert not {"container_name", "hostname", "ports"} & set(services()[name])


def test_parts_have_the_time_that_they_take_to_stop() -> None:
    """The API for its requests, a worker for the end of a step, its checkpoint and storing it."""
    assert seconds(services()["api"]["stop_grace_period"]) >= 2 * GRACEFUL_SHUTDOWN_SECONDS
    for name in ("worker", "worker-gpu"):
        assert seconds(services()[name]["stop_grace_period"]) >= 2 * INTERRUPT_SECONDS
        assert services()[name]["shm_size"] == "2gb"


@pytest.mark.parametrize("name", OURS)
def test_settings_are_valid_and_name_the_other_services(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Every SIMCLR_ variable is a setting with an allowed value, and hosts and ports are those of the services."""
    environment = services()[name]["environment"]
    put_into_environment(monkeypatch, environment, tmp_path)
    settings = Settings()
    urls = [settings.database_url, settings.redis_url, settings.storage_options["endpoint"]]
    assert [(urlsplit(url).hostname, urlsplit(url).port) for url in urls] == [
        ("postgres", 5432),
        ("redis", 6379),
        ("storage", 8333),
    ]
    assert all(host in services() for host in ("postgres", "redis", "storage"))
    assert set(environment) - {"FORWARDED_ALLOW_IPS"} == {n for n in environment if n.startswith("SIMCLR_")}


def test_a_password_is_the_same_on_both_sides() -> None:
    """What the servers were told is what the clients say."""
    ours = services()["api"]["environment"]
    assert urlsplit(ours["SIMCLR_DATABASE_URL"]).password == services()["postgres"]["environment"]["POSTGRES_PASSWORD"]
    assert urlsplit(ours["SIMCLR_REDIS_URL"]).password == services()["redis"]["command"][-1]
    options: dict[str, Any] = json.loads(ours["SIMCLR_STORAGE_OPTIONS"])
    storage = services()["storage"]["environment"]
    assert options["access_key_id"] == storage["AWS_ACCESS_KEY_ID"]
    assert options["secret_access_key"] == storage["AWS_SECRET_ACCESS_KEY"]


@pytest.mark.parametrize("name", PASSWORDS)
def test_no_password_has_a_default(name: str) -> None:
    """Without it compose says what is missing and starts nothing."""
    with pytest.raises(KeyError, match=f"{name} is missing in .env"):
        filled_in(FILE.read_text().replace("$$", ""), {**PASSWORDS, name: ""})


def test_the_one_shot_services_run_commands_that_exist() -> None:
    """`simclr migrate` and `simclr create-bucket`."""
    known = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    assert {services()[name]["command"][0] for name in ONCE} == {"migrate", "create-bucket"} <= known


def test_the_example_lists_every_variable() -> None:
    """docker/env.example names what the file reads, and nothing else."""
    example = (ROOT / "docker" / "env.example").read_text()
    listed = re.findall(r"^(?:# )?([A-Z_]+)=", example, flags=re.MULTILINE)
    assert sorted(listed) == sorted(set(re.findall(r"\$\{(\w+)", FILE.read_text())))

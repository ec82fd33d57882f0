"""What Prometheus and Grafana are told to look at is there to be seen."""

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import yaml

from service.core.settings import Settings
from tests.docker.compose import ROOT, services
from tests.docker.dockerfile import inherited
from tests.prometheus_text import families
from tests.service.conftest import serving

FOLDER = ROOT / "docker"
GRAFANA = FOLDER / "grafana"
LABELS = {"method", "route", "status", "stage", "source", "kind", "le", "job"}
ENDINGS = {"counter": [""], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}


def load(path: str) -> Any:
    return yaml.safe_load((FOLDER / path).read_text())


def rules() -> list[dict[str, Any]]:
    return [rule for group in load("alerts.yml")["groups"] for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((GRAFANA / "dashboards" / "simclr.json").read_text())
    return found


def expressions() -> Iterator[str]:
    yield from (rule["expr"] for rule in rules())
    yield from (target["expr"] for panel in dashboard()["panels"] for target in panel["targets"])


@pytest.fixture(scope="module")
def shown(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names of all series that the API can show."""
    data_dir = tmp_path_factory.mktemp("api")
    with serving(Settings(data_dir=data_dir, database_url=postgres_url, redis_url="redis://127.0.0.1:1/0")) as url:
        kinds = families(httpx.get(f"{url}/metrics").text)
    return {name + ending for name, kind in kinds.items() for ending in ENDINGS[kind]}


@pytest.mark.parametrize("expression", list(expressions()))
def test_every_metric_and_label_exists(expression: str, shown: set[str]) -> None:
    """No alert sleeps, and no panel is empty, for a name that changed."""
    names = set(re.findall(r"\bsimclr_\w+", expression))
    assert names <= shown
    assert names or "up{" in expression
    selected = re.findall(r'(\w+)\s*=~?\s*"', expression)
    grouped = [label for group in re.findall(r"by \(([^)]*)\)", expression) for label in group.split(", ")]
    assert {*selected, *grouped} <= LABELS


def test_every_metric_is_looked_at(shown: set[str]) -> None:
    """What is measured has a panel or an alert, the release's name apart."""
    seen = " ".join(expressions())
    stems = {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown} - {"simclr_info"}
    assert {stem for stem in stems if stem not in seen} == set()


def test_alerts_have_a_place_to_look_them_up() -> None:
    """Each says how urgent it is and what it means, and docs/operations.md what to do."""
    page = (ROOT / "docs" / "operations.md").read_text()
    for rule in rules():
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["annotations"]["summary"]
        assert f"`{rule['alert']}`" in page


def test_prometheus_asks_every_replica_of_the_api() -> None:
    """By the service's name and port; its files are where compose mounts them."""
    (scrape,) = load("prometheus.yml")["scrape_configs"]
    (discovery,) = scrape["dns_sd_configs"]
    assert discovery["names"] == ["api"]
    assert str(discovery["port"]) == dict(inherited("api"))["EXPOSE"]
    mounted = [volume.split(":")[1] for volume in services()["prometheus"]["volumes"]]
    assert set(load("prometheus.yml")["rule_files"]) <= set(mounted)


def test_grafana_finds_its_source_and_dashboard() -> None:
    """The source is compose's Prometheus; each panel names it; the provider reads the folder that is mounted."""
    (source,) = load("grafana/datasources/prometheus.yml")["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert {panel["datasource"]["uid"] for panel in dashboard()["panels"]} == {source["uid"]}
    (provider,) = load("grafana/dashboards/simclr.yml")["providers"]
    mounted = {source: target for source, target, *_ in (v.split(":") for v in services()["grafana"]["volumes"])}
    assert provider["options"]["path"] == mounted["./docker/grafana"] + "/dashboards"

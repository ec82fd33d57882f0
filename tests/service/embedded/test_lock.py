import subprocess
from pathlib import Path

import pytest

from service.embedded.lock import locked
from service.process import StartFailed


def test_the_lock_lasts_as_long_as_the_process_that_inherits_it(tmp_path: Path) -> None:
    """A server that outlives its supervisor keeps its folder, and frees it when it ends."""
    with locked(tmp_path) as lock:
        server = subprocess.Popen(["sleep", "60"], pass_fds=[lock])
    with pytest.raises(StartFailed, match="another server still runs on"), locked(tmp_path, timeout_seconds=0.2):
        pass
    server.kill()
    server.wait()
    with locked(tmp_path, timeout_seconds=0):
        pass


def test_a_process_that_does_not_inherit_it_does_not_hold_it(tmp_path: Path) -> None:
    """Any other child that was started meanwhile leaves the folder free."""
    with locked(tmp_path):
        bystander = subprocess.Popen(["sleep", "60"], close_fds=False)
    with locked(tmp_path, timeout_seconds=0):
        pass
    bystander.kill()
    bystander.wait()

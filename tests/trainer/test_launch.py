"""The ranks of a node: started with torchrun's environment, ended together, with the one that died first named."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from service.core.child import child_command
from tests.trainer.job_plane import is_alive, wait_until
from trainer.run import INTERRUPTED, PEER_GONE, PEER_SILENT, RunFolder


def launch(folder: Path, script: str, processes: int = 2) -> subprocess.Popen[bytes]:
    """Ranks 4 and up of 8, each running the script, with this process as the launcher's parent."""
    options = [
        "--first-rank",
        "4",
        "--processes",
        str(processes),
        "--world-size",
        "8",
        "--address",
        "::1",
        "--run-id",
        "r",
    ]
    launcher = [sys.executable, "-m", "trainer.launch", str(folder), *options, "--port", "29500", "--"]
    prelude = "import os, signal, sys, time; rank = int(os.environ['RANK']); "
    command = [*launcher, sys.executable, "-c", prelude + script, str(folder)]
    return subprocess.Popen(child_command(command, on_parent_death=signal.SIGKILL))


def first_loss(folder: Path) -> dict[str, int]:
    """Which rank died, and how."""
    loss: dict[str, int] = json.loads(RunFolder(folder).first_loss.read_text())
    return loss


PIDS = (
    "path = f'{sys.argv[1]}/{rank}'; open(path + '.partial', 'w').write(str(os.getpid()));"
    " os.rename(path + '.partial', path); "
)
BOTH_RUN = (  # else the launcher kills a rank that has not said its process id yet
    "next(_ for _ in iter(lambda: time.sleep(0.01), 1)"
    " if all(os.path.exists(f'{sys.argv[1]}/{rank}') for rank in (4, 5))); "
)


def pid_of(folder: Path, rank: int) -> int:
    """The process of a rank that runs by now."""
    wait_until((folder / str(rank)).exists)
    return int((folder / str(rank)).read_text())


def test_each_rank_has_the_environment_of_torchrun(tmp_path: Path) -> None:
    """Rank, local rank, world size and where to meet; all end well, so does the launcher."""
    names = (
        "'RANK', 'LOCAL_RANK', 'WORLD_SIZE', 'LOCAL_WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT', 'TORCHELASTIC_RUN_ID'"
    )
    process = launch(
        tmp_path, f"open(f'{{sys.argv[1]}}/{{rank}}', 'w').write(' '.join(os.environ[n] for n in ({names})))"
    )
    assert process.wait(10) == 0
    assert (tmp_path / "4").read_text() == "4 0 8 2 ::1 29500 r"
    assert (tmp_path / "5").read_text() == "5 1 8 2 ::1 29500 r"
    assert not RunFolder(tmp_path).first_loss.exists()


@pytest.mark.parametrize(("script", "rank", "returncode"), [
    ("os.kill(os.getpid(), signal.SIGKILL) if rank == 5 else time.sleep(60)", 5, -signal.SIGKILL),
    ("sys.exit(3) if rank == 4 else time.sleep(60)", 4, 3),
    (f"time.sleep(0.5 if rank == 5 else 0); os.kill(os.getpid(), 11) if rank == 5 else sys.exit({PEER_GONE})", 5, -11),
    (f"sys.exit({PEER_SILENT}) if rank == 5 else time.sleep(60)", 5, PEER_SILENT),
])  # fmt: skip
def test_a_failure_ends_all_and_its_cause_is_named(tmp_path: Path, script: str, rank: int, returncode: int) -> None:
    """Killed, failed, killed after another had noticed, silent: the status is 1 and nobody is left."""
    process = launch(tmp_path, PIDS + BOTH_RUN + script)
    assert process.wait(15) == 1
    assert first_loss(tmp_path) == {"rank": rank, "returncode": returncode}
    assert not any(is_alive(pid_of(tmp_path, rank)) for rank in (4, 5))


def test_sigterm_goes_on_to_all_and_they_may_take_their_time(tmp_path: Path) -> None:
    """One that has ended with INTERRUPTED doesn't hurry the other, which writes its checkpoint."""
    script = (
        f"signal.signal(15, lambda *_: (time.sleep(1 if rank == 4 else 0), open(f'{{sys.argv[1]}}/done{{rank}}', 'w'),"
        f" os._exit({INTERRUPTED}))); " + PIDS + "time.sleep(60)"
    )
    process = launch(tmp_path, script)
    for rank in (4, 5):
        pid_of(tmp_path, rank)
    process.terminate()
    assert process.wait(10) == INTERRUPTED
    assert all((tmp_path / f"done{rank}").exists() for rank in (4, 5))


def test_ranks_die_with_their_launcher(tmp_path: Path) -> None:
    """A kill -9 of it leaves none."""
    process = launch(tmp_path, PIDS + "time.sleep(60)")
    pids = [pid_of(tmp_path, rank) for rank in (4, 5)]
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    wait_until(lambda: not any(map(is_alive, pids)), seconds=3)

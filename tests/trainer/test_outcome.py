"""What files and exit codes say of an ended process."""

import signal
from pathlib import Path

import pytest

from service.core.errors import Unavailable
from trainer.outcome import Failed, Interrupted, Lost, Outcome, Succeeded, outcome_of, outcome_of_error
from trainer.run import AWAY, INTERRUPTED, RunError, RunFolder


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run folder with a long log."""
    run = RunFolder(tmp_path)
    run.log.write_text("".join(f"line {i}\n" for i in range(1, 10_001)))
    return run


@pytest.mark.parametrize(
    ("returncode", "interrupted", "out_of_memory", "expected"),
    [
        (INTERRUPTED, False, False, Interrupted()),
        (AWAY, False, False, Lost("dependency_away", "the database or the storage did not answer")),
        (-signal.SIGTERM, True, False, Interrupted()),
        (-signal.SIGKILL, False, False, Lost("rank_killed", "the process was killed by SIGKILL")),
        (-signal.SIGSEGV, False, True, Lost("rank_killed", "the process was killed by SIGSEGV")),
        (-signal.SIGKILL, False, True, Lost("rank_oom", "the process was killed for want of memory")),
        (137, False, False, Lost("rank_oom", "the process was killed for want of memory")),
    ],
)
def test_exit_codes(
    run: RunFolder, returncode: int, *, interrupted: bool, out_of_memory: bool, expected: Outcome
) -> None:
    """Without a result, signals are a loss with its reason, and a wanted end is an interruption."""
    assert outcome_of(run, returncode, interrupted=interrupted, out_of_memory=out_of_memory) == expected


def test_the_files_count_before_the_exit_code(run: RunFolder) -> None:
    """A process that crashed after its final marker has succeeded; one with an error has failed whatever killed it."""
    run.fail(RunError("no_images", "none", details={"rejected": []}))
    assert outcome_of(run, -9, interrupted=True, out_of_memory=True) == Failed("no_images", "none", {"rejected": []})
    run.succeed({"answer": 42})
    assert outcome_of(run, -11, interrupted=False, out_of_memory=False) == Succeeded({"answer": 42})


@pytest.mark.parametrize("returncode", [0, 1])
def test_a_crash_shows_the_end_of_the_log(run: RunFolder, returncode: int) -> None:
    """The last 20 lines are in the message, also when the process ended quietly without a result."""
    outcome = outcome_of(run, returncode, interrupted=False, out_of_memory=False)
    assert isinstance(outcome, Failed)
    assert outcome.code == "crashed"
    assert outcome.message.splitlines()[1:] == [f"line {i}" for i in range(9_981, 10_001)]


def test_an_error_that_may_pass_is_a_loss() -> None:
    """A storage that says when to try again loses the attempt; a damaged model fails the job."""
    assert outcome_of_error(Unavailable("away", retry_after_seconds=5)) == Lost("unavailable", "away")
    assert outcome_of_error(Unavailable("broken", code="model_damaged")) == Failed("model_damaged", "broken")

"""Start a child that dies with its parent, whatever kills the parent (Linux; elsewhere the child just starts).

    python -m service.core.child PARENT_PID SIGNAL [--user NAME] -- COMMAND...

The kernel's parent-death signal survives exec but neither fork nor a change of user, so it is asked for in the child
itself, after the change of user and before the exec. It fires when the parent's *thread* that forked ends: fork from
the main thread or from one that lives as long as the process.
"""

import ctypes
import os
import pwd
import signal
import sys
from collections.abc import Sequence

PR_SET_PDEATHSIG = 1


def child_command(command: Sequence[str], *, on_parent_death: signal.Signals, user: str | None = None) -> list[str]:
    """The argument vector that runs `command` so that this process's death sends it `on_parent_death`."""
    as_user = ["--user", user] if user else []
    wrapper = [sys.executable, "-m", "service.core.child", str(os.getpid()), on_parent_death.name]
    return [*wrapper, *as_user, "--", *command]


def die_with_parent(parent_pid: int, on_parent_death: signal.Signals) -> None:
    """Have the kernel send this process a signal when `parent_pid` dies; exit at once if it is dead already."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(on_parent_death))
    if os.getppid() != parent_pid:
        sys.exit(1)


def become(user: str) -> None:
    """Give up root for `user`."""
    entry = pwd.getpwnam(user)
    os.setgroups([])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)


def main(arguments: list[str]) -> None:
    """Parse the arguments above, arrange the death and become the command."""
    split = arguments.index("--")
    (parent_pid, signal_name, *options), command = arguments[:split], arguments[split + 1 :]
    if options:
        become(options[1])
    die_with_parent(int(parent_pid), signal.Signals[signal_name])
    os.execvp(command[0], command)  # noqa: S606  # the whole point: no shell, this process becomes the command


if __name__ == "__main__":
    main(sys.argv[1:])

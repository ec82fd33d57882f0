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

PR_SET_PDEATHSIG, PR_SET_KEEPCAPS = 1, 8
PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 47, 2
CAP_DAC_READ_SEARCH = 2
CAPABILITY_HEADER = (0x2008_0522, 0)  # version 3 of the call, this process


def child_command(command: Sequence[str], *, on_parent_death: signal.Signals, user: str | None = None) -> list[str]:
    """The argument vector that runs `command` so that this process's death sends it `on_parent_death`."""
    as_user = ["--user", user] if user else []
    # -P: a folder `service` in the current directory is not this package.
    wrapper = [sys.executable, "-P", "-m", "service.core.child", str(os.getpid()), on_parent_death.name]
    return [*wrapper, *as_user, "--", *command]


def die_with_parent(parent_pid: int, on_parent_death: signal.Signals) -> None:
    """Have the kernel send this process a signal when `parent_pid` dies; exit at once if it is dead already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(on_parent_death))
    if os.getppid() != parent_pid:
        sys.exit(1)


def become(user: str) -> None:
    """Give up root for `user`, but for the right to pass and read what only root may (a clone in /root).

    Some programs, PostgreSQL among them, refuse to run as root whatever it may do. Where the kernel doesn't let a
    process keep that right, the program itself reports the folder that it can't reach.
    """
    entry = pwd.getpwnam(user)
    libc = ctypes.CDLL(None)
    if sys.platform == "linux":
        libc.prctl(PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    if sys.platform == "linux":
        mask = 1 << CAP_DAC_READ_SEARCH  # effective, permitted, inheritable; the second three are capabilities above 31
        libc.capset((ctypes.c_uint32 * 2)(*CAPABILITY_HEADER), (ctypes.c_uint32 * 6)(mask, mask, mask))
        libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_READ_SEARCH, 0, 0)  # ambient ones survive the exec


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

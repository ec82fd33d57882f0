"""Start a child that dies with its parent, whatever kills the parent (Linux; elsewhere the child just starts).

    python -m service.core.child PARENT_PID SIGNAL [--user NAME] [--nice] -- COMMAND...

The kernel's parent-death signal survives exec but neither fork nor a change of user, so it is asked for in the child
itself, after the change of user and before the exec. It fires when the parent's *thread* that forked ends: fork from
the main thread or from one that lives as long as the process.
"""

import argparse
import ctypes
import os
import pwd
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

PR_SET_PDEATHSIG, PR_SET_KEEPCAPS = 1, 8
PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 47, 2
CAP_DAC_READ_SEARCH = 2
CAPABILITY_HEADER = (0x2008_0522, 0)  # version 3 of the call, this process
NICENESS = 10  # a tenth of a core that someone else wants, too
AUTOGROUP_TRIES = 10


def child_command(
    command: Sequence[str], *, on_parent_death: signal.Signals, user: str | None = None, nice: bool = False
) -> list[str]:
    """The argument vector that runs `command` so that this process's death sends it `on_parent_death`.

    A nice one should start a session of its own, which then gives way to all others.
    """
    options = [*(["--user", user] if user else []), *(["--nice"] if nice else [])]
    # -P: a folder `service` in the current directory is not this package.
    wrapper = [sys.executable, "-P", "-m", "service.core.child", str(os.getpid()), on_parent_death.name]
    return [*wrapper, *options, "--", *command]


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


def be_nice() -> None:
    """Have the cores only as far as processes that someone waits for leave them.

    Linux may share the cores among sessions first, and heed `nice` only within one: then the session is made nice, too.
    """
    niceness = os.nice(NICENESS)
    for _ in range(AUTOGROUP_TRIES):
        try:
            Path("/proc/self/autogroup").write_text(str(niceness))
        except BlockingIOError:  # but for root, one may be set in a tenth of a second
            time.sleep(0.1)
        except OSError:  # not Linux, or not done there
            return
        else:
            return


def main(arguments: list[str]) -> None:
    """Parse the arguments above, arrange the death and become the command."""
    parser = argparse.ArgumentParser()
    parser.add_argument("parent_pid", type=int)
    parser.add_argument("signal")
    parser.add_argument("--user")
    parser.add_argument("--nice", action="store_true")
    split = arguments.index("--")
    options, command = parser.parse_args(arguments[:split]), arguments[split + 1 :]
    if options.nice:
        be_nice()
    if options.user:
        become(options.user)
    die_with_parent(options.parent_pid, signal.Signals[options.signal])
    os.execvp(command[0], command)  # noqa: S606  # the whole point: no shell, this process becomes the command


if __name__ == "__main__":
    main(sys.argv[1:])

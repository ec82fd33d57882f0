"""Real ranks for tests: processes with torchrun's environment."""

import os
import socket
import subprocess
import sys


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def start_ranks(size: int, *command: str) -> list[subprocess.Popen[str]]:
    """`python COMMAND` as ranks 0 .. size - 1 of one node, of one thread each; warnings are errors."""
    master = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(size)}
    return [
        subprocess.Popen(
            [sys.executable, "-W", "error", *command],
            env={**os.environ, **master, "RANK": str(r), "LOCAL_RANK": str(r), "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for r in range(size)
    ]


def statuses(ranks: list[subprocess.Popen[str]], timeout: float = 60) -> tuple[list[int], list[str]]:
    """Exit statuses and stderr of the ranks; those that are still there after `timeout` seconds are killed."""
    try:
        errors = [rank.communicate(timeout=timeout)[1] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    return [rank.wait() for rank in ranks], errors


def run_ranks(size: int, *command: str) -> None:
    """`start_ranks`, to their end; all must succeed."""
    codes, errors = statuses(start_ranks(size, *command))
    assert codes == [0] * size, "\n".join(errors)

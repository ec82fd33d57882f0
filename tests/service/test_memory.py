"""What the API gives back to the kernel."""

import subprocess
import sys

import pytest

from service.memory import LARGE_BYTES

WORK = """
import sys
from concurrent.futures import ThreadPoolExecutor
import psutil
from service.memory import give_back_large_blocks
if sys.argv[1] == "True":
    give_back_large_blocks()
process = psutil.Process()
before = process.memory_info().rss
def work(number):
    large = bytearray(int(sys.argv[2]))
    small = bytearray(1000)  # above it, where both are in one heap
    return small
with ThreadPoolExecutor(4) as pool:
    kept = list(pool.map(work, range(100)))
    print(process.memory_info().rss - before)
"""


def kept_bytes(*, gives_back: bool) -> int:
    """Memory of a process after large blocks were freed in threads beside small ones that stay."""
    command = [sys.executable, "-c", WORK, str(gives_back), str(LARGE_BYTES)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
def test_freed_large_blocks_go_back_to_the_kernel() -> None:
    """Without it, a thread keeps them."""
    assert kept_bytes(gives_back=True) < LARGE_BYTES / 2 < kept_bytes(gives_back=False)

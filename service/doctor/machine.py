"""The machine: Python, processor, memory, disk."""

import platform
import shutil
import sys
import tempfile
from pathlib import Path

from service.doctor.finding import Finding, failed, ok, warning

CPU_INFO = Path("/proc/cpuinfo")
MEMORY_INFO = Path("/proc/meminfo")
GIB = 2**30
LEAST_MEMORY, GOOD_MEMORY = 1 * GIB, 4 * GIB  # PostgreSQL's buffers, the API with a model, one training process
LEAST_DISK, GOOD_DISK = 1 * GIB, 10 * GIB


def check_python() -> Finding:
    """Older ones don't get as far as this: the package itself refuses them."""
    return ok("Python", f"{platform.python_version()}, {sys.executable}")


def check_platform() -> Finding:
    """Parent-death signals and the wheels of the embedded servers are Linux's."""
    if sys.platform == "linux":
        return ok("system", f"{platform.system()} {platform.release()}, {platform.machine()}")
    advice = "use Linux, in a container or WSL2: the embedded servers and the supervisor are made for it"
    return warning("system", platform.platform(), advice)


def check_processor() -> Finding:
    """The embedded PostgreSQL's pgvector is compiled for AVX2 on x86-64."""
    if platform.machine() not in {"x86_64", "AMD64"} or not CPU_INFO.exists():
        return ok("processor", f"{platform.machine()}: no AVX2 to look for")
    flags = {word for line in CPU_INFO.read_text().splitlines() if line.startswith("flags") for word in line.split()}
    if "avx2" in flags:
        faster = "AVX2" + (", VNNI (int8 models are fast)" if {"avx512_vnni", "avx_vnni"} & flags else "")
        return ok("processor", faster)
    advice = (
        "set SIMCLR_DATABASE_URL to a PostgreSQL with pgvector of your own; in a virtual machine pass the host's CPU"
    )
    return failed("processor", "no AVX2, which the embedded database needs", advice)


def check_memory() -> Finding:
    """What is available now."""
    if not MEMORY_INFO.exists():
        return warning("memory", "not known on this system", f"have {GOOD_MEMORY // GIB} GiB free")
    lines = (line.split() for line in MEMORY_INFO.read_text().splitlines())
    available = next(int(words[1]) * 1024 for words in lines if words[0] == "MemAvailable:")
    return _enough("memory", available, LEAST_MEMORY, GOOD_MEMORY, "end other programs, or use a machine with more")


def check_disk(data_dir: Path) -> Finding:
    """Where the data goes: images, checkpoints, models, the database."""
    free = shutil.disk_usage(existing_parent(data_dir)).free
    advice = "free some space, or choose a folder on another disk with --data-dir"
    return _enough("disk", free, LEAST_DISK, GOOD_DISK, advice)


def _enough(name: str, free: int, least: int, good: int, advice: str) -> Finding:
    detail = f"{free / GIB:.1f} GiB free"
    if free < least:
        return failed(name, f"{detail}, of the {least // GIB} GiB that a start takes", advice)
    if free < good:
        return warning(name, f"{detail}; {good // GIB} GiB are comfortable", advice)
    return ok(name, detail)


def check_data_dir(data_dir: Path) -> Finding:
    """Whether a file can be made there, or where it would be made."""
    folder = existing_parent(data_dir)
    try:
        with tempfile.TemporaryFile(dir=folder):
            return ok("data folder", f"{data_dir.absolute()} can be written")
    except OSError as error:
        detail = f"{folder} can't be written: {error.strerror}"
        return failed("data folder", detail, "choose another with --data-dir, or change its owner")


def existing_parent(path: Path) -> Path:
    """The folder itself, or the nearest above it that is there."""
    return next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.is_dir())

"""What the agents of one worker share."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from service.core.db import Database
from service.core.settings import Settings
from service.core.storage import Storage, open_storage
from trainer.devices import DevicePool, cuda_devices
from trainer.files import NodeFiles
from trainer.process import COMMANDS


@dataclass(frozen=True)
class Host:
    """A worker's place: its settings, connections, devices and the event that says it is to stop."""

    settings: Settings
    database: Database
    storage: Storage
    files: NodeFiles
    gpus: DevicePool
    commands: Mapping[str, Sequence[str]]
    stopping: threading.Event = field(default_factory=threading.Event)


def open_host(settings: Settings, commands: Mapping[str, Sequence[str]] = COMMANDS) -> Host:
    """The place that the settings describe; nothing is connected yet. Where there are GPUs, it takes seconds."""
    storage = open_storage(settings)
    cache = settings.data_dir / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    files = NodeFiles(storage, cache, max_bytes=settings.file_cache_bytes)
    files.tidy()
    return Host(
        settings=settings,
        # A worker that is frozen amid a transaction must not keep others from its jobs for longer than its lease.
        database=Database(settings.database_url, max_silence_seconds=settings.lease_seconds),
        storage=storage,
        files=files,
        gpus=DevicePool(cuda_devices()),
        commands=commands,
    )

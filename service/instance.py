"""What `simclr up` makes sure of before anything starts: its data folder is its own, its address is free and safe.

And where other commands on the same machine find its database.
"""

import errno
import fcntl
import ipaddress
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from service.core.settings import Settings
from service.embedded.postgres import running_url
from service.process import StartFailed

PORT_TIMEOUT_SECONDS = 1  # an API that was killed a moment ago may still hold its port


@contextmanager
def only_instance(data_dir: Path) -> Iterator[None]:
    """Hold the data folder for this process alone. Raises StartFailed when another has it, or it can't be written.

    The kernel lets go of the lock when this process ends, however it ends: no child inherits the descriptor.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(data_dir / "up.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StartFailed(f"--data-dir {data_dir} can't be written ({error.strerror}): choose another") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.read(descriptor, 20).decode()
        os.close(descriptor)
        raise StartFailed(
            f"`simclr up` already runs on {data_dir}, as process {owner}: stop it, or choose another --data-dir"
        ) from None
    try:
        os.truncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        yield
    finally:
        os.close(descriptor)


def reachable_database(settings: Settings, data_dir: Path | None) -> str:
    """URL of the settings' database, or where a data folder is named of the `simclr up` that runs on it.

    Raises StartFailed where none does.
    """
    if settings.database_url and data_dir is None:
        return settings.database_url
    return running_url((data_dir or settings.data_dir) / "postgres")


def needs_keys(host: str, auth: Literal["auto", "on", "off"], *, allow_network: bool) -> bool:
    """Whether requests to the API on `host` need a key, as SIMCLR_AUTH says.

    Raises StartFailed when `host` is no address, or other machines would reach it without a key and that isn't allowed.
    """
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise StartFailed(f"--host {host!r} is no address of this machine: {error.strerror}") from error
    addresses = [ipaddress.ip_address(str(address[4][0]).split("%")[0]) for address in found]
    is_private = all(address.is_loopback for address in addresses)
    if auth == "off" and not is_private and not allow_network:
        raise StartFailed(
            f"--host {host} lets other machines in, and SIMCLR_AUTH=off needs no API keys of them: whoever reaches the"
            " port may read and delete everything. Leave SIMCLR_AUTH out, keep 127.0.0.1, or put a proxy with"
            " authentication in front and give --allow-unauthenticated-network"
        )
    return auth == "on" or (auth == "auto" and not is_private)


def check_port(host: str, port: int, *, option: str = "--port") -> None:
    """Raises StartFailed when the API could not listen there; `option` is what names another port."""
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    deadline = time.monotonic() + PORT_TIMEOUT_SECONDS
    while True:
        try:
            with socket.socket(family, kind) as listener:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the API will
                listener.bind(address)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise StartFailed(
                    f"can't listen on port {port} of {host} ({error.strerror}): choose another with {option}"
                ) from error
            if time.monotonic() > deadline:
                raise StartFailed(
                    f"port {port} of {host} is in use by another program: stop it, or choose another with {option}"
                ) from error
            time.sleep(0.05)
        else:
            return

"""Where other nodes reach this one: its address, the interface that has it, and a free port to meet at."""

import fcntl
import itertools
import socket
import struct
import zlib

from sqlalchemy import make_url

from service.core.db import sqlalchemy_url
from service.core.settings import Settings

LOOPBACK = "127.0.0.1"
SIOCGIFADDR = 0x8915  # Linux: the IPv4 address of an interface
DISCARD_PORT = 9  # nothing is sent to it


def own_address(settings: Settings) -> str:
    """The address at which other nodes reach this one. Raises OSError if the database's name isn't known."""
    return settings.node_address or address_towards(settings.database_url)


def address_towards(database_url: str) -> str:
    """The address from which this machine reaches a database; loopback for one on a Unix socket.

    All nodes reach the database, so this is an address on the network that they share.
    """
    url = make_url(sqlalchemy_url(database_url))
    host = url.host or url.query.get("host") or ""
    if not isinstance(host, str) or not host or host.startswith("/"):
        return LOOPBACK
    family, kind, _, _, address = socket.getaddrinfo(host, DISCARD_PORT, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as unused:
        unused.connect(address)  # of a datagram socket: only looks up the route
        own: str = unused.getsockname()[0]
    return own


def interface_of(address: str) -> str | None:
    """The network interface that has an IPv4 address or the address of a name; None also for others.

    Raises OSError if the name isn't known.
    """
    found = {info[4][0] for info in socket.getaddrinfo(address, None, family=socket.AF_UNSPEC)}
    return next((name for _, name in socket.if_nameindex() if _ipv4_of(name) in found), None)


def _ipv4_of(interface: str) -> str | None:
    request = struct.pack("256s", interface.encode()[:15])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        try:
            answer = fcntl.ioctl(any_socket, SIOCGIFADDR, request)
        except OSError:  # it has none
            return None
    return socket.inet_ntoa(answer[20:24])


class PortOffers:
    """Free ports of a range such as `29500-29599`, one after the other: the same one comes again as late as possible.

    A process that meets others needs seconds to listen on the port that was offered for it. Workers of one machine
    begin at different places, by their names.
    """

    def __init__(self, ports: str, node_name: str) -> None:
        first, _, last = ports.partition("-")
        self._numbers = range(int(first), int(last) + 1)
        start = zlib.crc32(node_name.encode()) % len(self._numbers)
        self._coming = itertools.islice(itertools.cycle(self._numbers), start, None)

    def next(self) -> int | None:
        """A port that nobody listens on, or None if all are taken."""
        return next((port for port in itertools.islice(self._coming, len(self._numbers)) if _is_free(port)), None)


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as torch's store does
        try:
            listener.bind(("", port))
        except OSError:
            return False
    return True

"""Where other nodes reach this one: its address, the interface that has it, and a free port to meet at."""

import fcntl
import itertools
import socket
import struct
from urllib.parse import urlsplit

LOOPBACK = "127.0.0.1"
SIOCGIFADDR = 0x8915  # Linux: the IPv4 address of an interface
DISCARD_PORT = 9  # nothing is sent to it


def address_towards(url: str) -> str:
    """The address from which this machine reaches the server of a URL; loopback for one on a Unix socket.

    All nodes reach the database, so this is an address on the network that they share.
    """
    host = urlsplit(url).hostname
    if host is None:
        return LOOPBACK
    family, kind, _, _, address = socket.getaddrinfo(host, DISCARD_PORT, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as unused:
        unused.connect(address)  # of a datagram socket: only looks up the route
        own: str = unused.getsockname()[0]
    return own


def interface_of(address: str) -> str | None:
    """The network interface that has an IPv4 address, or None, also for other addresses."""
    for _, name in socket.if_nameindex():
        if _ipv4_of(name) == address:
            return name
    return None


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

    A process that meets others needs seconds to listen on the port that was offered for it.
    """

    def __init__(self, ports: str) -> None:
        first, _, last = ports.partition("-")
        self._numbers = range(int(first), int(last) + 1)
        self._coming = itertools.cycle(self._numbers)

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

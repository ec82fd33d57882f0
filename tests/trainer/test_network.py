"""Addresses, interfaces and ports of a node."""

import socket

import pytest

from tests.stack import free_port
from trainer.network import PortOffers, address_towards, interface_of


@pytest.mark.parametrize(
    "url",
    [
        "postgresql:///postgres?host=/run/postgresql",
        "postgresql://me@127.0.0.1:5432/db",
        "postgresql:///db?host=127.0.0.1",
        "postgresql:///db",
    ],
)
def test_a_server_on_this_machine_is_reached_over_loopback(url: str) -> None:
    """By a Unix socket as by its address."""
    assert address_towards(url) == "127.0.0.1"


def test_the_interface_of_loopback() -> None:
    """Its name is found by its address; an address that no interface has gives none."""
    assert interface_of("127.0.0.1") == interface_of("localhost") == "lo"
    assert interface_of("203.0.113.7") is None
    assert interface_of("::1") is None


def test_a_port_that_is_taken_is_not_offered() -> None:
    """Of two the free one comes each time; when both are taken, none."""
    first = free_port()
    with socket.socket() as listener:
        listener.bind(("", first))
        listener.listen()
        offers = PortOffers(f"{first}-{first + 1}", "node-a")
        assert [offers.next(), offers.next()] == [first + 1, first + 1]
        assert PortOffers(f"{first}-{first}", "node-a").next() is None


def test_the_same_port_comes_again_as_late_as_possible() -> None:
    """Three free ports come in turn."""
    first = free_port()
    offers = PortOffers(f"{first}-{first + 2}", "node-a")
    seen = [offers.next() for _ in range(6)]
    assert seen[:3] == seen[3:]
    assert len(set(seen)) == 3


def test_workers_of_one_machine_offer_different_ports() -> None:
    """Of the default range each name begins at a place of its own."""
    firsts = {PortOffers("29500-29599", name).next() for name in ("node-a", "node-b", "gpu-1", "gpu-2")}
    assert len(firsts) == 4

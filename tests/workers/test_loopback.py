"""Ports of the loopback address."""

import socket

from workers.loopback import LOOPBACK, free_ports, is_free, is_served


def test_free_ports_are_free_and_different() -> None:
    ports = free_ports(3)
    assert len(set(ports)) == 3
    assert all(is_free(port) and not is_served(port) for port in ports)


def test_a_port_with_a_listener_is_served_and_not_free() -> None:
    with socket.create_server((LOOPBACK, 0)) as listener:
        port = listener.getsockname()[1]
        assert is_served(port)
        assert not is_free(port)

"""What the configuration says of movers: how long one that is away is waited for, and how many connections it gets."""

from pathlib import Path

import pytest

from holdfast.errors import ConfigurationInvalid
from tests.workers.test_config import BASE, load
from workers.mover_settings import (
    PATIENCE_MAX_S,
    PATIENCE_MIN_S,
    MoverPlace,
    check_connections,
    check_mover,
    check_patience,
)


@pytest.mark.parametrize("seconds", [PATIENCE_MIN_S, 120, PATIENCE_MAX_S])
def test_a_patience_between_a_restart_and_that_of_a_line_is_taken(seconds: int) -> None:
    check_patience("vault", seconds)


@pytest.mark.parametrize("seconds", [0, PATIENCE_MIN_S - 1, PATIENCE_MAX_S + 1])
def test_a_repository_with_another_patience_is_refused(tmp_path: Path, seconds: int) -> None:
    mover = f'name = "main"\nmover = "127.0.0.1:9440"\nmover_patience = {seconds}'
    with pytest.raises(ConfigurationInvalid, match=f"mover_patience of repository main is {seconds}"):
        load(tmp_path, BASE.replace('name = "main"', mover))


@pytest.mark.parametrize("count", [1, 5, 100])
def test_as_many_connections_as_a_mover_takes_may_be_had(count: int) -> None:
    check_connections("vault", count)


@pytest.mark.parametrize("count", [-1, 0, 101])
def test_a_repository_with_another_number_of_connections_is_refused(tmp_path: Path, count: int) -> None:
    mover = f'name = "main"\nmover = "127.0.0.1:9440"\nmover_connections = {count}'
    with pytest.raises(ConfigurationInvalid, match=f"mover_connections of repository main is {count}"):
        load(tmp_path, BASE.replace('name = "main"', mover))


HERE, FAR = "127.0.0.1:9440", "10.0.0.5:9440"


def test_a_mover_listens_where_it_is_reached_unless_the_configuration_says_otherwise() -> None:
    assert MoverPlace.parse(HERE).listens_at == MoverPlace.parse(HERE).reached_at
    assert str(MoverPlace.parse(FAR, "0.0.0.0:1").listens_at) == "0.0.0.0:1"


@pytest.mark.parametrize("place", [MoverPlace.parse(FAR), MoverPlace.parse(FAR, HERE), MoverPlace.parse(HERE, FAR)])
def test_whatever_is_reached_from_other_hosts_needs_certificates(place: MoverPlace) -> None:
    assert place.has_tls
    check_mover("vault", place, has_certificate=True)
    with pytest.raises(ConfigurationInvalid, match=f"reached from other hosts at {FAR} and has no certificate"):
        check_mover("vault", place, has_certificate=False)


def test_within_a_host_no_certificates_are_needed() -> None:
    place = MoverPlace.parse(HERE, "127.0.0.2:9441")
    assert not place.has_tls
    check_mover("vault", place, has_certificate=False)


@pytest.mark.parametrize("key", ["mover", "mover_listen"])
def test_an_address_without_a_port_is_refused(tmp_path: Path, key: str) -> None:
    addresses = {"mover": HERE, "mover_listen": HERE} | {key: "127.0.0.1:0"}
    told = "\n".join(f'{name} = "{address}"' for name, address in addresses.items())
    with pytest.raises(ConfigurationInvalid, match=rf"{key} of repository main has no port: 127\.0\.0\.1:0"):
        load(tmp_path, BASE.replace('name = "main"', f'name = "main"\n{told}'))


@pytest.mark.parametrize("key, value", [("listen", '"0.0.0.0:9440"'), ("patience", "60"), ("connections", "9")])
def test_what_is_said_of_a_mover_that_is_not_there_is_refused(tmp_path: Path, key: str, value: str) -> None:
    with pytest.raises(ConfigurationInvalid, match=f"mover_{key} of repository main is given, and its mover is not"):
        load(tmp_path, BASE.replace('name = "main"', f'name = "main"\nmover_{key} = {value}'))

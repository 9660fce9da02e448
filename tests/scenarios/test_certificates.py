"""Workers of two hosts know each other by certificates, made and copied as `holdfast certs` says; others get no data.

The mover listens at an address of this host that others reach, so that real workers speak TLS.
"""

import os
import random
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address
from typing import Any

import msgspec
import pytest

from holdfast.clock import SystemClock
from holdfast.errors import SessionFailed
from tests.scenarios.apart import back_up, elsewhere_of, give_mover, make_machine, restore
from tests.scenarios.places import opened_place
from workers.demo.crew import Command, Crew, chain_files
from workers.demo.place import JOB, DemoPlace
from workers.loopback import free_ports

# The first test also pays for the start of everything.
pytestmark = [pytest.mark.slow, pytest.mark.temporal, pytest.mark.timeout(400)]

DISK_BYTES = 16 << 20
SEED = 34
STRANGER = "proxy-b"
_NOBODY = ("192.0.2.1", 9)
"""A datagram socket connects to it without a word; that tells the address from which words would go out."""
_GIVEN = ("198.51.100.9/32", "dev", "lo")
"""An address that belongs to nobody (RFC 5737)."""


class Stage(msgspec.Struct, frozen=True):
    """A place whose workers have certificates of one authority, and the address of its mover."""

    place: DemoPlace
    address: str


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with ExitStack() as stack:
        host = stack.enter_context(reachable_address())
        place, _ = stack.enter_context(opened_place(tmp_path_factory.mktemp("certificates")))
        [port] = free_ports(1)
        give_mover(place, f"{host}:{port}")
        told = place.config.read_text("utf-8")
        # A second proxy that the configuration has and nobody runs, unless a test does.
        place.config.write_text(told.replace("[[jobs]]", f'[[proxies]]\nname = "{STRANGER}"\n\n[[jobs]]'))
        far = elsewhere_of(place)
        make_machine(place, random.Random(SEED).randbytes(DISK_BYTES))
        certify(place, place, "repo-a", "--address", host)
        certify(place, far, "proxy-a")
        crew, elsewhere = (stack.enter_context(Crew(each, SystemClock())) for each in (place, far))
        crew.start("control")
        crew.start("repository")
        elsewhere.start("proxy")
        yield Stage(place, host)


@contextmanager
def reachable_address() -> Iterator[str]:
    """Yield an IPv4 address of this host that is not of the loopback; where there is none, root gives it one."""
    found = own_address()
    if found is not None:
        yield found
        return
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("this host has no address but those of the loopback, and only root can give it one")
    subprocess.run(["ip", "address", "add", *_GIVEN], check=True)
    try:
        yield _GIVEN[0].partition("/")[0]
    finally:
        subprocess.run(["ip", "address", "delete", *_GIVEN], check=True)


def own_address() -> str | None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_NOBODY)
        except OSError:
            return None
        host: str = probe.getsockname()[0]
        return None if ip_address(host).is_loopback else host


def certify(issuer: DemoPlace, worker: DemoPlace, name: str, *words: str, authority: str = "certs") -> dict[str, Any]:
    """Make a certificate, copy what the command says beside a worker's configuration, and add the lines it says."""
    document = Command(issuer, "certs", name, "--to", str(issuer.root / authority), *words).result()
    [made] = document["certificates"]
    folder = worker.root / "tls"
    folder.mkdir(exist_ok=True)
    for file in (document["authority"]["certificate"], made["certificate"], made["key"]):
        shutil.copy(file, folder)
    told = worker.config.read_text("utf-8")
    told = re.sub(r"\[mover\]\n([a-z].*\n)+", "", told)
    worker.config.write_text(told.replace("[[providers]]", f"{made['configuration']}\n[[providers]]", 1))
    return document


@pytest.mark.parametrize("trusts_ours", [False, True])
def test_a_proxy_with_a_certificate_of_another_authority_is_refused(stage: Stage, *, trusts_ours: bool) -> None:
    known = chain_files(stage.place.repository)
    stranger = elsewhere_of(stage.place, f"stranger-{trusts_ours}")
    certify(stage.place, stranger, STRANGER, authority=f"others-{trusts_ours}")
    if trusts_ours:
        shutil.copy(stage.place.root / "certs" / "ca.pem", stranger.root / "tls" / "ca.pem")
    with Crew(stranger, SystemClock()) as crew:
        crew.start("proxy", "--name", STRANGER)
        with pytest.raises(SessionFailed, match="certificate") as refused:
            Command(stage.place, "backup", JOB, "--full", "--proxy", STRANGER).result()
    assert '"code": "link-refused"' in str(refused.value)
    assert chain_files(stage.place.repository) == known


def test_a_backup_and_its_restore_go_from_host_to_host(stage: Stage) -> None:
    restore(stage.place, back_up(stage.place))

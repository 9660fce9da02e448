"""Providers by name: a vCenter has one session in a process, opened when it is needed, and none afterwards."""

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest

from holdfast.clock import Clock, SystemClock
from holdfast.errors import ConfigurationInvalid, OperationInterrupted, ProviderUnavailable, ToolMissing
from holdfast.model.ids import CredentialName, ProviderName
from holdfast.model.latency import LatencyLimits
from holdfast.model.plan import TransportMode
from holdfast.planning.latency import LatencyRules
from holdfast.providers.local.hypervisor import LocalProvider
from workers.config import Settings
from workers.credentials import Credentials
from workers.provider_settings import (
    DatastoreLatencySettings,
    LocalProviderSettings,
    ProviderSettings,
    VSphereProviderSettings,
)
from workers.providers import ProviderPool, SharedProvider, vsphere_product, vsphere_settings
from workers.vcenter_lab import VCenterAddress

LAB, NEAR, FAR = map(ProviderName, ("lab", "near", "far"))
PATIENCE_S = 20
THREADS = 8


class Shared(LocalProvider):
    """A folder that counts how often it is let go of."""

    closed = 0
    complaint: ProviderUnavailable | None = None

    def close(self) -> None:
        self.closed += 1
        if self.complaint is not None:
            raise self.complaint


class Opener:
    """Opens folders; FAR waits for ``gate``, and the first ``failures`` attempts fail."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.opened: list[tuple[ProviderName, Shared]] = []
        self.failures = 0
        self.gate = threading.Event()

    def __call__(self, settings: VSphereProviderSettings, clock: Clock, credentials: Credentials) -> SharedProvider:
        if self.failures:
            self.failures -= 1
            raise ProviderUnavailable("away")
        assert settings.name != FAR or self.gate.wait(PATIENCE_S)
        assert credentials.folder == self.folder / "credentials"
        made = Shared.create(self.folder / settings.name, clock)
        self.opened.append((settings.name, made))
        return made


def vcenter(name: ProviderName) -> VSphereProviderSettings:
    return VSphereProviderSettings(name=name, host="vc.example", user="root", credential=CredentialName("vc"))


def pool_of(opener: Opener) -> ProviderPool:
    entries: tuple[ProviderSettings, ...] = (vcenter(NEAR), vcenter(FAR))
    local = LocalProviderSettings(name=LAB, path=opener.folder / "lab")
    settings = Settings(home=opener.folder, providers=(local, *entries))
    return ProviderPool(settings, SystemClock(), settings.credentials, open_shared=opener)


@pytest.fixture
def opener(tmp_path: Path) -> Iterator[Opener]:
    made = Opener(tmp_path)
    yield made
    made.gate.set()


def test_a_local_provider_is_made_anew_and_left_to_itself(opener: Opener) -> None:
    pool = pool_of(opener)
    LocalProvider.create(opener.folder / "lab", SystemClock())
    first = pool.open(LAB)
    assert list(first.machines()) == []
    assert pool.open(LAB) is not first
    pool.close()
    assert list(pool.open(LAB).machines()) == []


def test_an_unknown_name_is_refused(opener: Opener) -> None:
    with pytest.raises(ConfigurationInvalid, match="no provider other"):
        pool_of(opener).open(ProviderName("other"))


def test_threads_share_one_session(opener: Opener) -> None:
    pool, together = pool_of(opener), threading.Barrier(THREADS, timeout=PATIENCE_S)
    assert opener.opened == []

    def open_together(_: int) -> object:
        together.wait()
        return pool.open(NEAR)

    with ThreadPoolExecutor(THREADS) as threads:
        found = set(map(id, threads.map(open_together, range(THREADS))))
    assert len(found) == len(opener.opened) == 1


def test_a_vcenter_that_was_away_is_tried_again(opener: Opener) -> None:
    pool = pool_of(opener)
    opener.failures = 1
    with pytest.raises(ProviderUnavailable):
        pool.open(NEAR)
    assert pool.open(NEAR) is opener.opened[0][1]


def test_a_slow_vcenter_keeps_no_other_waiting(opener: Opener) -> None:
    pool = pool_of(opener)
    with ThreadPoolExecutor(1) as threads:
        slow = threads.submit(pool.open, FAR)
        assert pool.open(NEAR) is opener.opened[0][1]
        assert not slow.done()
        opener.gate.set()
        slow.result(PATIENCE_S)
    assert [name for name, _ in opener.opened] == [NEAR, FAR]


def test_closing_closes_once_what_was_opened_and_opens_no_more(opener: Opener) -> None:
    pool = pool_of(opener)
    pool.open(NEAR)
    pool.close()
    pool.close()
    assert [(name, shared.closed) for name, shared in opener.opened] == [(NEAR, 1)]
    for name in (NEAR, FAR):
        with pytest.raises(OperationInterrupted):
            pool.open(name)


def test_one_that_cannot_be_closed_keeps_no_other_open(opener: Opener) -> None:
    pool = pool_of(opener)
    opener.gate.set()
    pool.open(NEAR)
    pool.open(FAR)
    for _, shared in opener.opened:
        shared.complaint = ProviderUnavailable("away")
    with pytest.raises(ProviderUnavailable):
        pool.close()
    assert [shared.closed for _, shared in opener.opened] == [1, 1]


def test_a_vcenter_is_told_what_the_configuration_says(tmp_path: Path) -> None:
    settings = msgspec.structs.replace(
        vcenter(NEAR),
        port=8443,
        thumbprint="ab" * 32,
        transports=(TransportMode.HTTPS,),
        mounts={"ds": tmp_path},
        nbdkit_plugin=("python", "reader.py"),
        vddk_library=tmp_path / "vddk",
        change_tracking=False,
        free_space_min_percent=3,
        snapshots_per_datastore_max=7,
        foreign_snapshots="refuse",
        latency_start_max_ms=20,
        latency_sample_s=60,
        latency_removal_wait_minutes=5,
        latency_start_pause_s=50,
        latency_by_datastore={"ds": DatastoreLatencySettings(start_max_ms=40, slow_from_ms=60)},
    )
    secret = tmp_path / "vc"
    secret.touch(0o600)
    secret.write_text("open sesame\n")
    told = vsphere_settings(settings, Credentials(tmp_path))
    assert told.endpoint.password() == "open sesame"
    secret.write_text("changed\n")
    assert told.endpoint.password() == "changed"
    said, heard = msgspec.structs.asdict(settings), msgspec.structs.asdict(told)
    endpoint = msgspec.structs.asdict(heard.pop("endpoint"))
    assert heard.pop("is_foreign_refused")
    assert heard.pop("latency") == LatencyRules(
        limits=LatencyLimits(start_max_ms=20, sample_s=60, removal_wait_s=300, start_pause_s=50),
        by_datastore={
            "ds": LatencyLimits(start_max_ms=40, slow_from_ms=60, sample_s=60, removal_wait_s=300, start_pause_s=50)
        },
    )
    assert {key: said[key] for key in heard} == heard
    assert {key: endpoint[key] for key in ("host", "port", "user", "thumbprint", "ca_file")} == {
        key: said[key] for key in ("host", "port", "user", "thumbprint", "ca_file")
    }


def test_both_sides_have_the_same_defaults() -> None:
    told = vsphere_settings(vcenter(NEAR), Credentials(Path("credentials")))
    assert told == type(told)(endpoint=told.endpoint)


@pytest.mark.vsphere
def test_a_real_session_is_shared_and_ended(tmp_path: Path, vcenter: VCenterAddress) -> None:
    url = urlsplit(vcenter.url)
    assert url.hostname is not None
    assert url.port is not None
    settings = VSphereProviderSettings(
        name=NEAR,
        host=url.hostname,
        port=url.port,
        user=vcenter.user,
        credential=CredentialName("vc"),
        ca_file=Path(vcenter.certificate),
    )
    (tmp_path / "vc").touch(0o600)
    (tmp_path / "vc").write_text(vcenter.password)
    pool = ProviderPool(Settings(home=tmp_path, providers=(settings,)), SystemClock(), Credentials(tmp_path))
    with closing(pool):
        provider = pool.open(NEAR)
        assert pool.open(NEAR) is provider
        assert [machine.name for machine in provider.machines()] == ["DC0_H0_VM0", "DC0_H0_VM1"]
    assert [thread.name for thread in threading.enumerate() if "vsphere" in thread.name] == []


def test_a_missing_package_is_told_when_a_vcenter_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.partition(".")[0] in {"pyVmomi", "pyVim"}]:
        monkeypatch.delitem(sys.modules, module)
    for module in [name for name in sys.modules if name.startswith("holdfast.providers.vsphere.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "pyVmomi", None)
    settings = Settings(home=tmp_path, providers=(vcenter(NEAR),))
    pool = ProviderPool(settings, SystemClock(), settings.credentials)
    for opening in (lambda: pool.open(NEAR), lambda: vsphere_product(vcenter(NEAR), settings.credentials)):
        with pytest.raises(ToolMissing, match="provider near is of kind vsphere") as caught:
            opening()
        assert "holdfast[vsphere]" in caught.value.hint

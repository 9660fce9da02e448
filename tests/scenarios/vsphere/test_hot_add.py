"""Machines are backed up and restored over disks that are attached to the proxy, and nothing stays attached."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.model.session import Outcome
from holdfast.providers.vsphere import hot_add
from tests.holdfast.providers.vsphere.proxy import Proxy
from tests.lab.vcenter.client import MIB, Client
from tests.scenarios.vsphere.installation import HOT_ADD, PROXY_UUID
from tests.scenarios.vsphere.stage import Stage

pytestmark = [pytest.mark.slow, pytest.mark.temporal, pytest.mark.vsphere]


@pytest.fixture(scope="module")
def devices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("by-id")


@pytest.fixture(scope="module")
def proxy(installation: Stage, devices: Path) -> Proxy:
    """A machine of the vCenter that plays this host, for the provider that knows no other way."""
    proxy = Proxy(installation.bench, devices)
    installation.vc.reconfigure(proxy.vm, uuid=PROXY_UUID)
    return proxy


@pytest.fixture
def kernel(proxy: Proxy, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The kernel of the proxy shows what is attached."""
    monkeypatch.setattr(hot_add, "DEVICES", proxy.devices)
    client = Client(stage.address)
    try:
        with proxy.kernel(client):
            yield
    finally:
        client.close()


def expect_detached(proxy: Proxy) -> None:
    assert proxy.attached() == []
    assert proxy.marks() == []


@pytest.mark.usefixtures("kernel")
async def test_a_machine_is_backed_up_and_brought_back(stage: Stage, proxy: Proxy) -> None:
    machine = stage.machine("attached")
    files = stage.files()
    for kind in ("full", "increment"):
        result = await stage.run(stage.backup(machine, HOT_ADD))
        assert result.session.outcome is Outcome.SUCCESS, result.session.notes
        assert result.points[0].kind == kind
        assert all("over hot-add" in task.detail for task in result.tasks)
        assert stage.stored(machine) == stage.content(machine)
        expect_detached(proxy)
        stage.expect_nothing_left(files)
        stage.write(machine, 2 * MIB)
    before = stage.stored(machine)
    stage.switch_off(machine)
    result = await stage.run(stage.restore(machine, HOT_ADD))
    assert result.session.outcome is Outcome.SUCCESS, result.session.notes
    assert all("written and compared over hot-add" in task.detail for task in result.tasks)
    assert stage.content(machine) == before
    expect_detached(proxy)
    stage.switch_on(machine)
    await stage.expect_sound(machine)


@pytest.mark.usefixtures("kernel")
async def test_a_new_machine_is_made_over_attached_disks(stage: Stage, proxy: Proxy) -> None:
    machine = stage.machine("attached-source")
    await stage.run(stage.backup(machine, HOT_ADD))
    result = await stage.run(stage.restore(machine, HOT_ADD, new_name="attached-copy"))
    assert result.session.outcome is Outcome.SUCCESS, result.session.notes
    assert stage.content(stage.named("attached-copy")) == stage.stored(machine)
    expect_detached(proxy)
    stage.expect_nothing_left(stage.files())


@pytest.mark.usefixtures("kernel")
async def test_a_cancelled_backup_leaves_nothing_attached(stage: Stage, proxy: Proxy) -> None:
    machine = stage.machine("attached-cancelled")
    files = stage.files()
    async with stage.in_the_middle(stage.backup(machine, HOT_ADD)) as handle:
        assert proxy.attached()
        await handle.cancel()
    await stage.error_of(handle)
    expect_detached(proxy)
    stage.expect_nothing_left(files)

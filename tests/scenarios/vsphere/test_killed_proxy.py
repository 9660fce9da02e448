"""A proxy that is a process of its own and dies while the vCenter does what it asked for."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.model.ids import ProviderName
from holdfast.model.session import Outcome
from tests.lab.vcenter.client import MIB
from tests.scenarios.vsphere.installation import ANY, VAULT
from tests.scenarios.vsphere.stage import Stage
from tests.scenarios.vsphere.test_replacing import CALLS, changed_machine, expect_sound
from workers.provider_settings import VSphereProviderSettings

pytestmark = [pytest.mark.slow, pytest.mark.temporal, pytest.mark.vsphere]

NAME = "proxy-of-its-own"
PROGRAM = "from workers.cli.main import main; main()"
DELAY_MS = 1500
"""Long enough to be killed in, short enough to have ended when the next attempt begins."""


class Proxy:
    """A worker process with the role of a proxy."""

    def __init__(self, config: Path, log: Path) -> None:
        self._config = config
        self._log = log
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-c", PROGRAM, "worker", "proxy", "--name", NAME, "--config", str(self._config)]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        pause = threading.Event()
        while "ready" not in (told := self._log.read_text("utf-8")):
            assert self._process.poll() is None, told
            pause.wait(0.02)

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()


@pytest.fixture
def proxy(installation: Stage, tmp_path: Path) -> Iterator[Proxy]:
    config = tmp_path / "holdfast.toml"
    config.write_text(configuration(installation), "utf-8")
    proxy = Proxy(config, tmp_path / "proxy.log")
    yield proxy
    proxy.kill()


def configuration(stage: Stage, name: ProviderName = ANY) -> str:
    settings = stage.settings
    provider = settings.provider(name)
    assert isinstance(provider, VSphereProviderSettings)
    config = stage.temporal.service_client.config
    mounts = ", ".join(f"{json.dumps(store)} = {json.dumps(str(path))}" for store, path in provider.mounts.items())
    return f"""
home = {json.dumps(str(settings.home))}
[temporal]
address = "{config.target_host}"
namespace = "{stage.temporal.namespace}"
[[providers]]
name = "{name}"
kind = "vsphere"
host = "{provider.host}"
port = {provider.port}
user = "{provider.user}"
credential = "{provider.credential}"
thumbprint = "{provider.thumbprint}"
free_space_min_percent = 0
transports = {json.dumps(provider.transports)}
mounts = {{ {mounts} }}
nbdkit_plugin = {json.dumps(list(provider.nbdkit_plugin))}
[[repositories]]
name = "{VAULT}"
path = {json.dumps(str(settings.repository(VAULT).path))}
[[proxies]]
name = "{NAME}"
"""


@pytest.mark.parametrize(
    "step", ["attach", *(pytest.param(step, marks=pytest.mark.soak) for step in CALLS if step != "attach")]
)
async def test_a_restore_over_the_original_is_completed_by_the_next_process(
    stage: Stage, proxy: Proxy, step: str
) -> None:
    machine, before = await changed_machine(stage, f"killed-{step}")
    files = stage.files()
    method, at = CALLS[step]
    rule = stage.fault(method, "delay", at=at, delay_ms=DELAY_MS)
    handle = await stage.start(stage.restore(machine, proxy=NAME))
    await stage.wait_for_hit(rule)
    proxy.kill()
    proxy.start()
    result = await handle.result()
    assert result.session.outcome is Outcome.SUCCESS
    assert stage.content(machine) == before
    stage.expect_nothing_left(stage.files())
    await expect_sound(stage, machine, files)


@pytest.mark.tools("nbdkit")
@pytest.mark.parametrize(
    "method",
    [
        "RemoveSnapshot_Task",
        *(pytest.param(m, marks=pytest.mark.soak) for m in ("CreateSnapshot_Task", "ReconfigVM_Task")),
        *(pytest.param(m, marks=pytest.mark.soak) for m in ("QueryChangedDiskAreas", "disk:OPEN")),
    ],
)
async def test_a_quick_rollback_is_completed_by_the_next_process(stage: Stage, proxy: Proxy, method: str) -> None:
    machine, before = await changed_machine(
        stage, f"rollback-killed-{method.lower().replace('_', '-').replace(':', '-')}"
    )
    files = stage.files()
    rule = stage.fault(method, "delay", delay_ms=DELAY_MS)
    handle = await stage.start(stage.restore(machine, proxy=NAME, is_quick=True))
    await stage.wait_for_hit(rule)
    proxy.kill()
    proxy.start()
    result = await handle.result()
    assert result.session.outcome in {Outcome.SUCCESS, Outcome.WARNING}, result.session.notes
    assert stage.content(machine) == before
    stage.expect_nothing_left(files)
    await expect_sound(stage, machine, files)


@pytest.mark.soak
@pytest.mark.parametrize("method", ["CreateSnapshot_Task", "RemoveSnapshot_Task", "QueryChangedDiskAreas"])
async def test_a_backup_is_completed_by_the_next_process(stage: Stage, proxy: Proxy, method: str) -> None:
    machine = stage.machine(f"killed-{method.lower().replace('_', '-')}")
    await stage.run(stage.backup(machine))
    files = stage.files()
    stage.write(machine, 0, MIB)
    rule = stage.fault(method, "delay", delay_ms=DELAY_MS)
    handle = await stage.start(stage.backup(machine, proxy=NAME))
    await stage.wait_for_hit(rule)
    proxy.kill()
    proxy.start()
    result = await handle.result()
    assert result.session.outcome is Outcome.SUCCESS
    assert stage.stored(machine) == stage.content(machine)
    await stage.expect_sound(machine, files)

"""nbdkit as our child: what it gets, what it says, and how it ends."""

import os
import shutil
import stat
import threading
from pathlib import Path

import pytest
from typing_extensions import override

from holdfast.clock import SystemClock
from holdfast.errors import ProviderUnavailable, RequestInvalid, ToolMissing
from holdfast.providers.nbd.disk import NbdDisk
from holdfast.providers.nbd.server import NbdServer, ServerPlan

pytestmark = pytest.mark.tools("nbdkit")

SECRET = "correct horse; battery 'staple' $HOME"
# Serves the value of a parameter as its disk, padded to one sector.
SECRET_PLUGIN = """
import os
API_VERSION = 2
content = b""
def config(key, value):
    global content
    assert value.startswith("+"), value
    with open_file(value[1:], "rb") as stream:
        content = stream.read().ljust(512, b"\\0")
open_file = open
def open(readonly):
    return 1
def get_size(handle):
    return len(content)
def pread(handle, buffer, offset, flags):
    buffer[:] = content[offset:offset + len(buffer)]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let temporary folders be made where the test can see them."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_a_server_serves_in_a_folder_of_its_own_and_leaves_nothing(folder: Path) -> None:
    with NbdServer(ServerPlan(plugin=("memory",), parameters={"size": "1M"})) as server:
        [made] = folder.iterdir()
        assert stat.S_IMODE(made.stat().st_mode) == 0o700
        assert server.socket_path.parent == made
        pid = server.pid
        assert pid is not None
        with NbdDisk(server.export) as disk:
            assert disk.size_bytes == 1 << 20
    assert server.pid is None
    assert not Path(f"/proc/{pid}").exists()
    assert list(folder.iterdir()) == []
    server.stop()


def test_a_secret_is_in_no_command_line_and_in_no_file_afterwards(folder: Path) -> None:
    script = folder / "plugin.py"
    script.write_text(SECRET_PLUGIN)
    plan = ServerPlan(plugin=("python", str(script)), secrets={"password": SECRET})
    assert SECRET not in repr(plan)
    with NbdServer(plan) as server:
        assert server.pid is not None
        command = Path(f"/proc/{server.pid}/cmdline").read_bytes()
        assert SECRET.encode() not in command
        assert b"password=+" in command
        assert sorted(file.name for file in server.socket_path.parent.iterdir()) == ["pid", "socket"]
        with NbdDisk(server.export) as disk:
            content = bytearray(512)
            disk.read_into(0, memoryview(content))
        assert content.rstrip(b"\0") == SECRET.encode() + b"\n"


def test_a_secret_file_is_readable_by_its_owner_only(folder: Path) -> None:
    server = NbdServer(ServerPlan(plugin=("memory", "1M")))
    server._folder = folder
    file = folder / "secret-password"
    assert server._hand_over("password", SECRET) == f"password=+{file}"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("secrets", [{"password": "two\nlines"}, {"password": "nul\0"}, {"../x": "y"}, {"": "y"}])
def test_a_secret_that_nbdkit_cannot_read_is_refused(folder: Path, secrets: dict[str, str]) -> None:
    with pytest.raises(RequestInvalid) as caught, NbdServer(ServerPlan(plugin=("memory", "1M"), secrets=secrets)):
        pass
    assert "two" not in caught.value.message
    assert list(folder.iterdir()) == []


def test_a_parameter_that_no_command_line_can_hold_is_refused(folder: Path) -> None:
    plan = ServerPlan(plugin=("memory",), parameters={"size": "1\0M"})
    with pytest.raises(RequestInvalid, match="has a NUL"), NbdServer(plan):
        pass
    assert list(folder.iterdir()) == []


def test_a_plugin_that_is_not_installed_is_named_with_its_package(folder: Path) -> None:
    plan = ServerPlan(plugin=("no-such-thing",))
    with pytest.raises(ToolMissing, match="cannot load no-such-thing: cannot open plugin") as caught, NbdServer(plan):
        pass
    assert "the package is nbdkit." in (caught.value.hint or "")
    assert list(folder.iterdir()) == []


def test_a_filter_that_is_not_installed_is_named(folder: Path) -> None:
    plan = ServerPlan(plugin=("memory", "1M"), filters=("no-such-thing",))
    with pytest.raises(ToolMissing, match="cannot open filter 'no-such-thing'"), NbdServer(plan):
        pass
    assert list(folder.iterdir()) == []


def test_the_package_of_the_vddk_plugin_is_named(folder: Path) -> None:
    if any(Path("/usr/lib").glob("*/nbdkit/plugins/nbdkit-vddk-plugin.so")):
        pytest.fail("the plugin is installed; choose another one for this test")
    with pytest.raises(ToolMissing) as caught, NbdServer(ServerPlan(plugin=("vddk",))):
        pass
    assert "nbdkit-plugin-vddk" in (caught.value.hint or "")
    assert list(folder.iterdir()) == []


def test_without_nbdkit_the_packages_are_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name, path=None: path and None)
    with pytest.raises(ToolMissing, match="`nbdkit` is not installed") as caught, NbdServer(ServerPlan(plugin=("x",))):
        pass
    assert "nbdkit-plugin-python" in (caught.value.hint or "")
    assert list(folder.iterdir()) == []


def test_a_parameter_nbdkit_does_not_understand_is_reported_in_its_words(folder: Path) -> None:
    plan = ServerPlan(plugin=("memory",), parameters={"size": "many"})
    with pytest.raises(ProviderUnavailable, match=r"nbdkit cannot serve memory: could not parse size"), NbdServer(plan):
        pass
    assert list(folder.iterdir()) == []


def test_a_host_without_room_for_the_folder_is_reported(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(folder / "none"))
    with pytest.raises(ProviderUnavailable, match="nbdkit cannot be started"), NbdServer(ServerPlan(plugin=("x",))):
        pass


class HastyClock(SystemClock):
    """A clock on which a minute passes between two looks."""

    def __init__(self) -> None:
        self.looks = 0

    @override
    def monotonic_s(self) -> float:
        self.looks += 1
        return self.looks * 60.0


def test_a_server_that_does_not_come_up_is_ended(folder: Path) -> None:
    script = folder / "plugin.py"
    script.write_text("import time\ntime.sleep(60)\n")
    server = NbdServer(ServerPlan(plugin=("python", str(script))), clock=HastyClock())
    with pytest.raises(ProviderUnavailable, match="does not serve within 30 s: it says nothing"), server:
        pass
    assert server.pid is None
    assert list(folder.iterdir()) == [script]


def test_a_server_outlives_the_thread_that_started_it(folder: Path) -> None:
    server = NbdServer(ServerPlan(plugin=("pattern", "1M")))
    starter = threading.Thread(target=server.start)
    starter.start()
    starter.join()
    with NbdDisk(server.export) as disk:
        disk.read_into(0, memoryview(bytearray(512)))
    assert server.pid is not None
    server.stop()
    assert list(folder.iterdir()) == []


def test_a_server_in_use_is_stopped_by_force(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.providers.nbd.server.STOP_DEADLINE_S", 0.2)  # nbdkit waits for its clients
    server = NbdServer(ServerPlan(plugin=("memory", "1M")))
    server.start()
    with NbdDisk(server.export) as disk:
        disk.read_into(0, memoryview(bytearray(512)))
        server.stop()
    assert list(folder.iterdir()) == []


def test_a_server_that_was_killed_is_known_to_be_gone(folder: Path) -> None:
    with NbdServer(ServerPlan(plugin=("memory", "1M"))) as server:
        child = server._child
        assert child is not None
        os.kill(child.pid, 9)
        assert child.wait(20)
        assert server.pid is None
    assert list(folder.iterdir()) == []


def test_what_the_plugin_complained_about_is_known(folder: Path) -> None:
    script = folder / "plugin.py"
    script.write_text("API_VERSION = 2\ndef open(r): raise RuntimeError('login refused')\ndef get_size(h): return 1\n")
    script.write_text(script.read_text() + "def pread(h, b, o, f): pass\n")
    with NbdServer(ServerPlan(plugin=("python", str(script)))) as server:
        assert server.last_words() == ""
        with pytest.raises(Exception, match="refuses"):
            NbdDisk(server.export)
        assert "login refused" in server.last_words()

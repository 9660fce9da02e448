"""Guest operations: programs and files in the folder that plays a machine's guest."""

import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.lab.vcenter.client import Client, vim

pytestmark = pytest.mark.vsphere


class Guest:
    """The guest of one machine, as one account reaches it."""

    def __init__(self, vc: Client, vm: Any, password: str | None = None) -> None:
        manager = vc.content.guestOperationsManager
        self.vc, self.vm = vc, vm
        self.processes, self.files, self.accounts = manager.processManager, manager.fileManager, manager.authManager
        self.auth = vim.vm.guest.NamePasswordAuthentication(
            username="root", password=password or "guest", interactiveSession=False
        )
        self.root = Path(vc.control("GET", f"/guests?machine={vm.name}")["folder"])

    def start(self, program: str, arguments: str = "", **values: Any) -> int:
        spec = vim.vm.guest.ProcessManager.ProgramSpec(programPath=program, arguments=arguments, **values)
        pid: int = self.processes.StartProgramInGuest(vm=self.vm, auth=self.auth, spec=spec)
        return pid

    def info(self, pid: int) -> Any:
        [found] = self.processes.ListProcessesInGuest(vm=self.vm, auth=self.auth, pids=[pid])
        return found

    def run(self, program: str, arguments: str = "", **values: Any) -> int:
        """Return the exit code of a program."""
        pid, pause = self.start(program, arguments, **values), threading.Event()
        while self.info(pid).endTime is None:
            pause.wait(0.01)
        code: int = self.info(pid).exitCode
        return code

    def put(self, path: str, data: bytes, *, size: int | None = None, overwrite: bool = False, mode: int = 0) -> None:
        attributes = vim.vm.guest.FileManager.PosixFileAttributes(permissions=mode)
        url = self.files.InitiateFileTransferToGuest(
            vm=self.vm,
            auth=self.auth,
            guestFilePath=path,
            fileAttributes=attributes,
            fileSize=len(data) if size is None else size,
            overwrite=overwrite,
        )
        request = urllib.request.Request(url, data, method="PUT")  # noqa: S310 # the lab's own https
        with urllib.request.urlopen(request, context=self.vc.tls, timeout=30):  # noqa: S310
            pass

    def get(self, path: str) -> bytes:
        info = self.files.InitiateFileTransferFromGuest(vm=self.vm, auth=self.auth, guestFilePath=path)
        data = self.vc.get(info.url)
        assert info.size == len(data)
        return data


@pytest.fixture
def guest(vc: Client) -> Guest:
    return Guest(vc, vc.machine("DC0_H0_VM0"))


def test_an_account_is_checked(vc: Client, guest: Guest) -> None:
    guest.accounts.ValidateCredentialsInGuest(vm=guest.vm, auth=guest.auth)
    wrong = Guest(vc, guest.vm, "wrong")
    with pytest.raises(vim.fault.InvalidGuestLogin):
        wrong.accounts.ValidateCredentialsInGuest(vm=wrong.vm, auth=wrong.auth)
    with pytest.raises(vim.fault.InvalidGuestLogin):
        wrong.start("/bin/true")


def test_a_guest_without_running_tools_or_power_cannot_be_reached(vc: Client) -> None:
    guest = Guest(vc, vc.machine("DC0_H0_VM1"))
    vc.control("POST", "/tools", {"machine": guest.vm.name, "running": False})
    with pytest.raises(vim.fault.GuestOperationsUnavailable):
        guest.start("/bin/true")
    vc.control("POST", "/tools", {"machine": guest.vm.name, "running": True})
    vc.wait(guest.vm.PowerOffVM_Task())
    assert guest.vm.guest.toolsRunningStatus == "guestToolsNotRunning"
    with pytest.raises(vim.fault.InvalidPowerState):
        guest.start("/bin/true")
    vc.wait(guest.vm.PowerOnVM_Task())
    assert guest.run("/bin/true") == 0


def test_a_program_runs_in_the_folder_of_its_guest(guest: Guest) -> None:
    assert guest.run("/bin/sh", "-c 'echo $WORD > here; exit 3'", envVariables=["WORD=said"]) == 3
    assert (guest.root / "here").read_text("utf-8") == "said\n"
    assert guest.get("/here") == b"said\n"
    with pytest.raises(vim.fault.FileNotFound):
        guest.start("/no/such/program")


def test_a_program_that_runs_on_is_terminated(guest: Guest) -> None:
    pid = guest.start("/bin/sleep", "60")
    running = guest.info(pid)
    assert (running.name, running.owner, running.cmdLine) == ("sleep", "root", "/bin/sleep 60")
    assert running.endTime is None
    guest.processes.TerminateProcessInGuest(vm=guest.vm, auth=guest.auth, pid=pid)
    pause = threading.Event()
    while guest.info(pid).endTime is None:
        pause.wait(0.01)
    with pytest.raises(vim.fault.GuestProcessNotFound):
        guest.processes.TerminateProcessInGuest(vm=guest.vm, auth=guest.auth, pid=pid)


def test_a_script_is_put_run_and_taken_away(guest: Guest) -> None:
    folder = guest.files.CreateTemporaryDirectoryInGuest(vm=guest.vm, auth=guest.auth, prefix="hf", suffix="")
    guest.put(f"{folder}/script", b"#!/bin/sh\necho $1 > $GUEST_ROOT/result\n", mode=0o700)
    assert guest.run(f"{folder}/script", "word") == 0
    assert guest.get("result") == b"word\n"
    listed = guest.files.ListFilesInGuest(vm=guest.vm, auth=guest.auth, filePath=folder)
    assert [(f.path, f.type) for f in listed.files] == [("script", "file")]
    guest.files.DeleteFileInGuest(vm=guest.vm, auth=guest.auth, filePath=f"{folder}/script")
    guest.files.DeleteDirectoryInGuest(vm=guest.vm, auth=guest.auth, directoryPath=folder, recursive=False)
    with pytest.raises(vim.fault.FileNotFound):
        guest.get(f"{folder}/script")


def test_files_are_not_overwritten_unless_told_and_have_the_announced_size(guest: Guest) -> None:
    guest.put("/file", b"first")
    with pytest.raises(vim.fault.FileAlreadyExists):
        guest.put("/file", b"second")
    guest.put("/file", b"second", overwrite=True)
    with pytest.raises(urllib.error.HTTPError, match="500"):
        guest.put("/other", b"short", size=100)
    with pytest.raises(vim.fault.FileNotFound):
        guest.put("/nowhere/file", b"x")
    guest.files.MakeDirectoryInGuest(vm=guest.vm, auth=guest.auth, directoryPath="/a/b", createParentDirectories=True)
    assert (guest.root / "a" / "b").is_dir()


def test_no_path_leads_out_of_the_guest(guest: Guest) -> None:
    guest.put("/../../escaped", b"inside")
    assert (guest.root / "escaped").read_bytes() == b"inside"


def test_an_address_serves_once(guest: Guest) -> None:
    guest.put("/once", b"1")
    info = guest.files.InitiateFileTransferFromGuest(vm=guest.vm, auth=guest.auth, guestFilePath="/once")
    assert guest.vc.get(info.url) == b"1"
    with pytest.raises(urllib.error.HTTPError, match="404"):
        guest.vc.get(info.url)

"""Every system call fails once, and once then for ever: one clear error, nothing lost, nothing left open or locked."""

import errno
import shutil
from collections import Counter
from pathlib import Path

import pytest

from holdfast.clock import SystemClock
from holdfast.errors import HoldfastError, RepositoryFull, StoreFailed, SyncFailed
from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.compression import Compression
from holdfast.model.spans import Span
from holdfast.pipeline.stages import PipeOptions
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.atomic import HostFiles
from holdfast.storage.files.chain_lock import acquire_chain_lock
from holdfast.storage.intake.lifecycle import StoreOptions
from holdfast.testing.chains import ProtectedMachine
from holdfast.testing.faults import FailingSystem, SystemFault, open_below
from tests.fuzz.explorer import tell

STORE = StoreOptions(unit_size=256 << 10)
PIPE = PipeOptions(compression=Compression.NONE, commit_new_bytes=256 << 10, commit_interval_s=1e9)
EXPECTED = {
    ("write", errno.EIO): StoreFailed,
    ("write", errno.ENOSPC): RepositoryFull,
    ("sync", errno.EIO): SyncFailed,
    ("sync", errno.ENOSPC): RepositoryFull,
    ("read", errno.EIO): StoreFailed,
    ("rename", errno.EIO): StoreFailed,
    ("rename", errno.ENOSPC): RepositoryFull,
    ("open", errno.EIO): StoreFailed,
    ("open", errno.EMFILE): StoreFailed,
}
MOST_CALLS = 500


class Rig:
    """A repository with one finished point and a machine that has changed since, made anew for every run."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.template = folder / "template"
        repository = Repository.create(self.template, HostFiles(), "id", SystemClock().now())
        self.machine = ProtectedMachine(repository, seed % 1000, {"disk0": 5 * PIECE_SIZE}, STORE, PIPE)
        self.machine.disks["disk0"].write(Span(0, 5 * PIECE_SIZE))
        self.machine.back_up()
        self.machine.disks["disk0"].write(Span(PIECE_SIZE // 2, 2 * PIECE_SIZE))
        self.machine.sessions += 1
        self.runs = 0

    def fresh(self) -> Repository:
        """Return a copy of the repository as it was before the second session."""
        self.runs += 1
        root = self.folder / f"run-{self.runs}"
        shutil.copytree(self.template, root)
        self.machine.repository = Repository.open(root, HostFiles())
        self.machine.rewind(1)
        return self.machine.repository

    def session(self) -> None:
        opened = self.machine.begin()
        self.machine.transfer(opened, "disk0")
        self.machine.finish(opened)


def session_with(rig: Rig, fault: SystemFault) -> tuple[HoldfastError | None, FailingSystem]:
    repository = rig.fresh()
    system = FailingSystem(repository.root, fault)
    error = None
    with system.active():
        try:
            rig.session()
        except HoldfastError as caught:
            error = caught
    return error, system


def check_aftermath(rig: Rig) -> None:
    """Nothing is open or locked, the finished point reads its bytes, and the session can be done again."""
    repository = rig.machine.repository
    assert open_below(repository.root) == []
    for chain in repository.chain_folders():
        acquire_chain_lock(repository.files, chain).close()
    rig.machine.rewind(1)
    assert rig.machine.differences() == []
    if not any(f.point.session == "session-2" and f.point.complete for f in repository.points()):
        rig.session()
    assert rig.machine.differences() == []
    assert open_below(repository.root) == []


@pytest.mark.parametrize("is_sticky", [False, True], ids=["once", "for ever"])
@pytest.mark.parametrize("kind, number", EXPECTED)
def test_every_call_that_fails_ends_in_one_clear_error_and_loses_nothing(
    tmp_path: Path, seed: int, kind: str, number: int, is_sticky: bool
) -> None:
    rig = Rig(tmp_path, seed)
    errors: Counter[str] = Counter()
    for call in range(1, MOST_CALLS):
        error, system = session_with(rig, SystemFault(kind=kind, number=call, error=number, is_sticky=is_sticky))
        if not system.failed:
            assert error is None
            break
        assert error is not None
        assert type(error) is EXPECTED[kind, number], error
        errors[type(error).__name__] += 1
        check_aftermath(rig)
        shutil.rmtree(rig.machine.repository.root)
    else:
        pytest.fail("the session never came to its end")
    assert sum(errors.values()) > 0
    tell(f"{sum(errors.values())} failing calls of {kind}: {dict(errors)}")


def test_a_write_that_comes_out_short_is_completed(tmp_path: Path, seed: int) -> None:
    rig = Rig(tmp_path, seed)
    for call in range(1, MOST_CALLS):
        error, system = session_with(rig, SystemFault(kind="write", number=call, error=0))
        assert error is None
        assert rig.machine.differences() == []
        shutil.rmtree(rig.machine.repository.root)
        if not system.failed:
            break
    assert call > 10


def test_writes_that_come_out_shorter_and_shorter_end(tmp_path: Path, seed: int) -> None:
    rig = Rig(tmp_path, seed)
    error, _ = session_with(rig, SystemFault(kind="write", number=3, error=0, is_sticky=True))
    assert isinstance(error, StoreFailed)
    assert "takes no more bytes" in error.message
    check_aftermath(rig)

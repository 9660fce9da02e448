"""Files that were built of others are rebuilt from their records like any; rollback files are left as they are."""

from collections.abc import Callable

import pytest

from holdfast.errors import HoldfastError
from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.spans import Span
from holdfast.storage.chains.chain import Chain
from holdfast.storage.chains.metadata import METADATA_NAME
from holdfast.storage.health.folder import rebuild_file
from holdfast.storage.methods.compacting import compact
from holdfast.storage.methods.reversing import make_newest_full
from holdfast.storage.methods.upkeep import ChainUpkeep
from holdfast.testing.chains import ProtectedMachine
from holdfast.testing.crashfs import CrashFiles
from tests.holdfast.storage.jobs import Job
from tests.holdfast.storage.methods.test_merging import folder_of
from tests.holdfast.storage.methods.test_synthesis import check, make_full, protected


def merge(machine: ProtectedMachine) -> None:
    names = [f"{number:08d}-increment.hfc" for number in (2, 3, 4)]
    ChainUpkeep(machine.repository.files, folder_of(machine), machine.store.passphrase).merge_all(
        "00000001-full.hfc", names
    )
    del machine.kept[:3]


def merge_and_compact(machine: ProtectedMachine) -> None:
    merge(machine)
    compact(machine.repository.files, folder_of(machine), machine.store.passphrase)


@pytest.mark.parametrize("passphrase", [None, "secret"])
@pytest.mark.parametrize("change", [make_full, merge, merge_and_compact])
def test_a_full_that_was_built_of_others_is_rebuilt(
    change: Callable[[ProtectedMachine], object], passphrase: str | None, files: CrashFiles
) -> None:
    machine = protected(files, passphrase)
    machine.disks["a"].zero(Span(6 * PIECE_SIZE, 3 * PIECE_SIZE))
    machine.disks["a"].write(Span(12 * PIECE_SIZE, PIECE_SIZE))
    change(machine)
    folder = folder_of(machine)
    with Chain.open(files, folder, passphrase) as chain:
        assert chain.full is not None
        path = chain.full.path
    files.set_content(path, bytes(8192) + files.content(path)[8192:])
    rebuild_file(files, folder, path.name, passphrase)
    check(machine)


def test_a_rollback_file_that_lost_its_tables_is_not_replaced(files: CrashFiles) -> None:
    machine = protected(files)
    folder = folder_of(machine)
    make_newest_full(files, folder, None)
    path = folder / "00000002-rollback.hfc"
    lost = bytes(8192) + files.content(path)[8192:]
    files.set_content(path, lost)
    with pytest.raises(HoldfastError):
        rebuild_file(files, folder, path.name, None)
    assert files.content(path) == lost
    assert files.exists(folder / METADATA_NAME)


@pytest.mark.parametrize("passphrase", [None, "secret"])
def test_a_file_that_machines_share_is_rebuilt_without_what_one_gave_up(
    passphrase: str | None, files: CrashFiles
) -> None:
    job = Job(files, passphrase)
    job.run()
    job.change()
    job.half_written(job.a)
    job.abandon(job.a)
    job.b.back_up()
    job.a.sessions -= 1
    job.half_written(job.a)
    job.abandon(job.a)
    job.a.sessions -= 1
    job.a.back_up()
    assert job.a.kept[1].summary.file == job.b.kept[1].summary.file
    for kept in (job.a.kept[0], job.b.kept[1]):
        path = job.repository.chain_file(kept.summary.chain, kept.summary.file)
        files.set_content(path, bytes(8192) + files.content(path)[8192:])
        rebuild_file(files, path.parent, path.name, passphrase)
        job.check()

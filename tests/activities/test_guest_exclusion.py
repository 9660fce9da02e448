"""What a guest does not need is left out of points, remembered, and read again once it is needed."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from temporalio.testing import ActivityEnvironment

from activities import guest_exclusion
from activities.contracts.rollback import DiskRolledBack, RollBackDisk
from activities.contracts.transfer import CopyDisk, DiskCopied
from activities.guest_exclusion import Guest, GuestExclusion, Looks
from holdfast.errors import ChangeTrackingLost, OperationCancelled, OperationInterrupted, RequestInvalid
from holdfast.formats.contents import LeftOut
from holdfast.model.ids import DiskKey
from holdfast.model.machine import Machine, PowerState
from holdfast.model.plan import ReadMode
from holdfast.model.points import PointSummary
from holdfast.model.spans import Span
from holdfast.planning.guest_exclusion import Unneeded
from holdfast.providers.local.hypervisor import LocalProvider
from holdfast.providers.raw_disks import FrozenDisk
from holdfast.testing.images import MIB, FileSystem, check_image, make_image, read_file, write_files
from tests.activities.lab import PIECE, PROVIDER, STORE, TOKEN, UNIT, Attempt, Lab, cursors, failure, run, stopping
from tests.holdfast.guest.drives import garble, look, mbr, patch, place_volume, sparse
from tests.holdfast.guest.drives import run as tool

SECTOR = 512
EXT_AT, EXT_SIZE = MIB, 16 * MIB
SWAP_AT, SWAP_SIZE = 20 * MIB, 4 * MIB
SIZE = 24 * MIB
TREE = {f"d/f{number}": b"%d" % number * 9000 for number in range(8)}

pytestmark = pytest.mark.tools("mke2fs", "debugfs", "e2fsck", "mkswap")


@pytest.fixture
def machine(lab: Lab, tmp_path: Path) -> Machine:
    """Return a machine whose swap space and free blocks are full of old bytes."""
    path, part = sparse(tmp_path / "guest.raw", SIZE), tmp_path / "part.raw"
    patch(path, 0, mbr((0x83, EXT_AT // SECTOR, EXT_SIZE // SECTOR), (0x82, SWAP_AT // SECTOR, SWAP_SIZE // SECTOR)))
    make_image(part, FileSystem.EXT4, EXT_SIZE, TREE)
    place_volume(path, part, EXT_AT)
    make_image(part, FileSystem.SWAP, SWAP_SIZE)
    place_volume(path, part, SWAP_AT)
    garble(path, look(path).deleted_spans())
    garble(path, look(path).swap_spans())
    return lab.provider.add_machine("guest", {DiskKey("disk0"): path})


def back_up(
    lab: Lab,
    machine: Machine,
    tag: str,
    *,
    swap: bool = True,
    deleted: bool = True,
    sample: int = 64 << 20,
    files: tuple[str, ...] = (),
    alone: bool = True,
) -> tuple[DiskCopied, PointSummary, LeftOut | None]:
    request: CopyDisk = msgspec.structs.replace(
        lab.begun(machine, tag),
        exclude_swap=swap,
        exclude_deleted=deleted,
        sample_bytes=sample,
        exclude_files=files,
        is_only_disk=alone,
    )
    copied = run(lab.transfers.copy_disk, request)
    assert run(lab.transfers.copy_disk, request).disk == copied.disk, "a second attempt finds everything done"
    point = lab.finish(request.point)
    with lab.repository.open_chain(point.chain, None) as chain:
        kept = chain.disk(point.number, request.disk).disk.left_out
    return copied, point, None if isinstance(kept, msgspec.UnsetType) else kept


def mount(lab: Lab, machine: Machine) -> None:
    """Let the volume say that it is in use."""
    part = lab.root / "part.raw"
    part.write_bytes(lab.content(machine)[EXT_AT : EXT_AT + EXT_SIZE])
    tool("debugfs", "-w", "-R", "feature needs_recovery", part)
    patch(lab.disk_path(machine), EXT_AT, part.read_bytes()[: 1 << 16])


def lost(*_: object) -> Iterator[Span]:
    raise ChangeTrackingLost("gone for a while")


def expected(lab: Lab, machine: Machine) -> bytes:
    """Return the disk with zeros in every piece that is wholly unneeded."""
    data = bytearray(lab.content(machine))
    use = look(lab.disk_path(machine), least=PIECE)
    for span in [*use.swap_spans(), *use.deleted_spans()]:
        start, end = -(-span.start // PIECE) * PIECE, span.end // PIECE * PIECE
        if start < end:
            data[start:end] = bytes(end - start)
    return bytes(data)


def test_a_full_has_zeros_where_the_guest_needs_nothing(lab: Lab, machine: Machine, tmp_path: Path) -> None:
    copied, point, kept = back_up(lab, machine, "s1")
    restored = lab.restored(machine, point)
    assert restored == expected(lab, machine) != lab.content(machine)
    assert copied.figures.read_bytes < SIZE - SWAP_SIZE
    assert copied.left_out.startswith(f"left out {SWAP_SIZE - PIECE} bytes of swap and ")
    assert kept == LeftOut(deleted=True, swap=((SWAP_AT + PIECE, SWAP_SIZE - PIECE),))
    part = tmp_path / "restored.raw"
    part.write_bytes(restored[EXT_AT : EXT_AT + EXT_SIZE])
    assert check_image(part, FileSystem.EXT4).is_clean
    assert {name: read_file(part, FileSystem.EXT4, name) for name in TREE} == TREE


def test_without_exclusion_every_byte_is_kept(lab: Lab, machine: Machine) -> None:
    copied, point, kept = back_up(lab, machine, "s1", swap=False, deleted=False)
    assert (copied.left_out, kept) == ("", None)
    assert lab.restored(machine, point) == lab.content(machine)


def test_an_increment_leaves_out_changed_swap(lab: Lab, machine: Machine) -> None:
    back_up(lab, machine, "s1")
    lab.overwrite(machine, SWAP_AT + MIB, MIB)
    copied, point, kept = back_up(lab, machine, "s2")
    assert (copied.decision.mode, copied.note) == (ReadMode.CHANGED, "")
    assert copied.figures.read_bytes == 0
    assert kept == LeftOut(deleted=True, swap=((SWAP_AT + PIECE, SWAP_SIZE - PIECE),))
    assert lab.restored(machine, point) == expected(lab, machine)


def test_swap_that_is_wanted_again_is_read_although_nothing_changed(lab: Lab, machine: Machine) -> None:
    back_up(lab, machine, "s1", deleted=False)
    copied, point, kept = back_up(lab, machine, "s2", swap=False, deleted=False)
    assert copied.decision.mode is ReadMode.CHANGED
    assert copied.figures.read_bytes == SWAP_SIZE - PIECE
    assert kept is None
    assert lab.restored(machine, point) == lab.content(machine)


def test_a_machine_that_fell_asleep_gets_its_memory_back(lab: Lab, machine: Machine) -> None:
    back_up(lab, machine, "s1", deleted=False)
    patch(lab.disk_path(machine), SWAP_AT + 4086, b"S1SUSPEND\0")
    copied, point, kept = back_up(lab, machine, "s2", deleted=False)
    assert copied.decision.mode is ReadMode.CHANGED
    assert kept is None
    assert "sleeps" in copied.left_out
    assert lab.restored(machine, point) == lab.content(machine)


def test_swap_of_a_machine_that_may_sleep_in_another_disk_is_read(lab: Lab, machine: Machine) -> None:
    back_up(lab, machine, "s1", deleted=False)
    copied, point, kept = back_up(lab, machine, "s2", deleted=False, alone=False)
    assert copied.left_out == "swap: the machine is off, and may sleep in another disk"
    assert (copied.decision.mode, kept) == (ReadMode.CHANGED, None)
    assert lab.restored(machine, point) == lab.content(machine)
    lab.provider.set_power(machine.machine_id, PowerState.ON)
    lab.overwrite(machine, SWAP_AT + MIB, MIB)
    _, _, kept = back_up(lab, machine, "s3", deleted=False, alone=False)
    assert kept == LeftOut(swap=((SWAP_AT + PIECE, SWAP_SIZE - PIECE),))


def test_a_disk_that_comes_as_a_stream_is_not_looked_over(
    lab: Lab, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    back_up(lab, machine, "s1")
    monkeypatch.setattr(FrozenDisk, "pieces_received", 0, raising=False)
    monkeypatch.setattr(FrozenDisk, "stop_waiting", lambda *_: None, raising=False)
    lab.overwrite(machine, SWAP_AT + MIB, PIECE)
    copied, _, kept = back_up(lab, machine, "s2", files=("*.iso",))
    assert copied.decision.mode is ReadMode.CHANGED
    assert copied.figures.read_bytes == SWAP_SIZE - PIECE
    assert "as one stream" in copied.left_out
    assert "is meant by" not in copied.left_out, "nobody looked"
    assert kept == LeftOut(deleted=True)
    copied, point, kept = back_up(lab, machine, "s3", swap=False, deleted=False)
    assert (copied.left_out, kept) == ("", None)
    assert lab.restored(machine, point) == lab.content(machine)


def test_looking_a_disk_over_ends_and_says_so(lab: Lab, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guest_exclusion, "LOOK_MAX_S", 1.0)
    copied, point, kept = back_up(lab, machine, "s1")
    assert copied.left_out == "the whole disk: the time for looking the disk over was up"
    assert kept is None
    assert lab.restored(machine, point) == lab.content(machine)


def test_looking_a_disk_over_counts_as_work_and_hears_that_it_shall_stop(lab: Lab, machine: Machine) -> None:
    said = 0

    def waiting() -> None:
        nonlocal said
        said += 1
        if said == 3:
            raise OperationCancelled("enough")

    snapshot = lab.freeze(machine)
    with lab.provider.open_disk(machine.machine_id, snapshot.snapshot_id, DiskKey("disk0")) as disk:
        looks = Looks(lab.clock, waiting, is_stream=False)
        exclusion = GuestExclusion(disk, {Unneeded.SWAP}, Guest(at_rest=True, is_only_disk=True), looks)
        with pytest.raises(OperationCancelled):
            exclusion.remembered  # noqa: B018
    assert said == 3


def test_deleted_blocks_that_are_wanted_again_are_compared_once(lab: Lab, machine: Machine) -> None:
    back_up(lab, machine, "s1", swap=False)
    copied, point, kept = back_up(lab, machine, "s2", swap=False, deleted=False)
    assert copied.decision.mode is ReadMode.COMPARED
    assert "left out deleted blocks" in copied.decision.reason
    assert (copied.note, kept) == ("", None)
    assert lab.restored(machine, point) == lab.content(machine)
    copied, point, _ = back_up(lab, machine, "s3", swap=False, deleted=False)
    assert copied.decision.mode is ReadMode.CHANGED


def test_what_was_left_out_is_no_lie_of_the_tracking(lab: Lab, machine: Machine) -> None:
    back_up(lab, machine, "s1")
    mount(lab, machine)
    copied, _, kept = back_up(lab, machine, "s2", sample=1 << 30)
    assert (copied.decision.mode, copied.note) == (ReadMode.CHANGED, "")
    assert "journal has to be replayed" in copied.left_out
    assert kept is not None
    assert kept.deleted, "pieces of the earlier point are missing still"
    copied, point, kept = back_up(lab, machine, "s3", swap=False, deleted=False)
    assert (copied.decision.mode, kept) == (ReadMode.COMPARED, None)
    assert lab.restored(machine, point) == lab.content(machine)


def test_files_that_take_deleted_blocks_are_in_the_next_point(lab: Lab, machine: Machine) -> None:
    back_up(lab, machine, "s1")
    path, part = lab.disk_path(machine), lab.root / "part.raw"
    part.write_bytes(lab.content(machine)[EXT_AT : EXT_AT + EXT_SIZE])
    new = {f"new{number}": b"%d," % number * 40_000 for number in range(20)}
    write_files(part, FileSystem.EXT4, new)
    place_volume(path, part, EXT_AT)
    copied, point, _ = back_up(lab, machine, "s2")
    assert copied.decision.mode is ReadMode.CHANGED
    part.write_bytes(lab.restored(machine, point)[EXT_AT : EXT_AT + EXT_SIZE])
    assert check_image(part, FileSystem.EXT4).is_clean
    assert {name: read_file(part, FileSystem.EXT4, name) for name in TREE | new} == TREE | new


@pytest.mark.tools("mkntfs", "ntfscp")
def test_a_running_machine_keeps_what_only_looks_clean(lab: Lab, tmp_path: Path) -> None:
    path = tmp_path / "windows.raw"
    make_image(path, FileSystem.NTFS, 16 * MIB, {"pagefile.sys": b"p" * MIB})
    garble(path, look(path).deleted_spans())
    machine = lab.provider.add_machine("windows", {DiskKey("disk0"): path})
    lab.provider.set_power(machine.machine_id, PowerState.ON)
    copied, _, kept = back_up(lab, machine, "s1")
    assert "bytes of swap; the whole disk: the machine is on" in copied.left_out
    assert kept is not None
    assert not kept.deleted
    lab.provider.set_power(machine.machine_id, PowerState.OFF)
    copied, _, _ = back_up(lab, machine, "s2")
    assert copied.decision.mode is ReadMode.CHANGED


BIG = {"var/tmp/big": b"b" * (2 * MIB), "iso/a.iso": b"a" * MIB, "notes": b"n" * MIB}


@pytest.fixture
def files(lab: Lab, tmp_path: Path) -> Machine:
    """Return a machine with one disk that is an ext4 with large files."""
    path = tmp_path / "files.raw"
    make_image(path, FileSystem.EXT4, EXT_SIZE, BIG)
    return lab.provider.add_machine("files", {DiskKey("disk0"): path})


def content_of(path: Path) -> dict[str, bytes]:
    return {name: read_file(path, FileSystem.EXT4, name) for name in BIG}


def test_excluded_files_read_as_zeros_and_the_file_system_is_in_order(lab: Lab, files: Machine, tmp_path: Path) -> None:
    masks = ("/var/tmp/*", "*.iso", "/none/*")
    copied, point, kept = back_up(lab, files, "s1", deleted=False, files=masks)
    part = tmp_path / "restored.raw"
    part.write_bytes(lab.restored(files, point))
    assert check_image(part, FileSystem.EXT4).is_clean
    found = content_of(part)
    assert found["notes"] == BIG["notes"]
    for name in ("var/tmp/big", "iso/a.iso"):
        assert len(found[name]) == len(BIG[name])
        # Pieces that hold something else, too, are whole; the rest of the file is zeros.
        assert found[name].count(0) >= len(BIG[name]) - 4 * PIECE
    assert "bytes of excluded files" in copied.left_out
    assert copied.left_out.endswith("nothing is meant by /none/*")
    assert kept is not None
    assert not kept.deleted
    assert sum(length for _, length in kept.swap) > 2 * MIB


def test_a_file_that_is_no_longer_excluded_is_read_although_nothing_changed(lab: Lab, files: Machine) -> None:
    _, _, before = back_up(lab, files, "s1", deleted=False, files=("*.iso", "/var"))
    assert before is not None
    copied, _, kept = back_up(lab, files, "s2", deleted=False, files=("*.iso",))
    assert (copied.decision.mode, copied.note) == (ReadMode.CHANGED, "")
    assert kept is not None
    gone = sum(length for _, length in before.swap) - sum(length for _, length in kept.swap)
    assert copied.figures.read_bytes == gone > MIB
    copied, point, kept = back_up(lab, files, "s3", deleted=False)
    assert kept is None
    assert lab.restored(files, point) == lab.content(files)


def test_an_excluded_file_whose_volume_is_in_use_by_now_is_read_again(lab: Lab, files: Machine) -> None:
    back_up(lab, files, "s1", deleted=False, files=("/var/tmp/*",))
    tool("debugfs", "-w", "-R", "feature needs_recovery", lab.disk_path(files))
    copied, point, kept = back_up(lab, files, "s2", deleted=False, files=("/var/tmp/*",))
    assert copied.decision.mode is ReadMode.CHANGED
    assert "journal has to be replayed" in copied.left_out
    assert "nothing is meant by /var/tmp/*" in copied.left_out
    assert kept is None
    assert lab.restored(files, point) == lab.content(files)


def rolled_back(lab: Lab, machine: Machine, point: PointSummary, *, compare: bool) -> tuple[DiskRolledBack, bytes]:
    """Return what a quick rollback did, and the disk behind it."""
    target = lab.provider.prepare_in_place(TOKEN, machine.machine_id, machine.disks)
    request = RollBackDisk(
        provider=PROVIDER,
        target_id=target.target_id,
        disk=DiskKey("disk0"),
        repository=STORE,
        chain=point.chain,
        number=point.number,
        compare=compare,
        sample_bytes=1 << 30,
    )
    done = run(lab.rollbacks.roll_back_disk, request)
    return done, lab.content(lab.commit(target))


def test_what_an_attempt_kept_of_a_point_that_lacks_it_stays_lacking_when_the_next_compares(
    lab: Lab, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    back_up(lab, machine, "s1", swap=False)
    mount(lab, machine)
    lab.overwrite(machine, EXT_AT + EXT_SIZE, 7 * MIB)
    request = msgspec.structs.replace(lab.begun(machine, "s2"), exclude_deleted=True, sample_bytes=0)
    attempt = stopping(ActivityEnvironment.worker_shutdown, units=(EXT_AT + EXT_SIZE + MIB) // UNIT)
    failure(OperationInterrupted, lab.transfers.copy_disk, request, attempt)
    with monkeypatch.context() as patched:
        patched.setattr(LocalProvider, "changed_spans", lost)
        copied = Attempt(cursors(attempt)[-1]).run(lab.transfers.copy_disk, request)
    assert copied.decision.mode is ReadMode.COMPARED
    assert lab.disk_of(request).left_out == LeftOut(deleted=True)
    lab.finish(request.point)
    copied, point, kept = back_up(lab, machine, "s3", swap=False, deleted=False)
    assert (copied.note, kept) == ("", None)
    assert lab.restored(machine, point) == lab.content(machine)


@pytest.mark.parametrize("compare", [True, False])
def test_a_quick_rollback_leaves_alone_what_the_point_left_out(lab: Lab, machine: Machine, *, compare: bool) -> None:
    _, point, _ = back_up(lab, machine, "s1")
    before = lab.content(machine)
    lab.overwrite(machine, 0, 10)
    done, after = rolled_back(lab, machine, point, compare=compare)
    assert (done.decision.mode, done.note, done.written_bytes) == (ReadMode.CHANGED, "", PIECE)
    assert after == before


@pytest.mark.parametrize("compare", [True, False])
def test_a_quick_rollback_that_meets_a_lie_writes_all_that_differs(
    lab: Lab, machine: Machine, monkeypatch: pytest.MonkeyPatch, *, compare: bool
) -> None:
    _, point, _ = back_up(lab, machine, "s1")
    wanted = expected(lab, machine)
    lab.overwrite(machine, 0, 10)
    monkeypatch.setattr(LocalProvider, "target_changes", lambda *_: iter(()))
    done, after = rolled_back(lab, machine, point, compare=compare)
    assert after == wanted
    if compare:
        assert done.note.startswith(f"change tracking is not to be believed: {PIECE} bytes differed")
        assert done.written_bytes > SWAP_SIZE
    else:
        assert "change tracking left a change out, found at offset 0" in done.note


def test_a_mask_that_means_nothing_fails_the_copy(lab: Lab, files: Machine) -> None:
    request = msgspec.structs.replace(lab.begun(files), exclude_files=("*",))
    assert failure(RequestInvalid, lab.transfers.copy_disk, request).non_retryable

"""How much of a disk is read, why, and what is not believed."""

import os
import shutil
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from holdfast.errors import ChangeTrackingLost
from holdfast.model.ids import DiskKey
from holdfast.model.plan import ReadMode
from holdfast.model.spans import Span
from holdfast.providers.local.hypervisor import LocalProvider
from holdfast.providers.raw_disks import FrozenDisk
from tests.activities.lab import PIECE, Lab, run, write_disk

SIZE = 48 * PIECE + 512


def test_a_first_point_is_read_in_full_without_its_holes(lab: Lab) -> None:
    machine = lab.add_machine(size_bytes=SIZE)
    copied, point = lab.back_up(machine)
    assert (copied.decision.mode, copied.note) == (ReadMode.FULL, "")
    assert copied.figures.size_bytes == copied.figures.processed_bytes == SIZE
    assert copied.figures.read_bytes < 40 * PIECE
    assert lab.restored(machine, point) == lab.content(machine)


def test_an_increment_reads_only_what_changed(lab: Lab) -> None:
    machine = lab.add_machine(size_bytes=SIZE)
    lab.back_up(machine)
    lab.overwrite(machine, 5 * PIECE + 100, 2 * PIECE)
    copied, point = lab.back_up(machine, "s2")
    assert (copied.decision.mode, copied.note, point.kind) == (ReadMode.CHANGED, "", "increment")
    assert copied.figures.read_bytes == 3 * PIECE
    assert lab.restored(machine, point) == lab.content(machine)


@pytest.mark.parametrize("size", [SIZE + 20 * PIECE, SIZE - 20 * PIECE])
def test_a_disk_of_another_size_is_read_to_the_last_byte_whatever_tracking_tells(lab: Lab, size: int) -> None:
    machine = lab.add_machine(size_bytes=SIZE)
    lab.back_up(machine)
    os.truncate(lab.disk_path(machine), size)
    with lab.disk_path(machine).open("r+b") as file:
        file.write(b"in silence")
    machine = lab.provider.machine(machine.machine_id)
    copied, point = lab.back_up(machine, "s2")
    assert copied.decision.mode is ReadMode.COMPARED
    assert copied.decision.reason == "the disk has another size than at the earlier point"
    assert (copied.note, point.kind) == ("", "increment")
    assert copied.figures.read_bytes >= size
    assert lab.restored(machine, point) == lab.content(machine)


def test_lost_change_tracking_becomes_a_comparison_that_says_so(lab: Lab) -> None:
    machine = lab.add_machine(size_bytes=SIZE)
    lab.back_up(machine)
    lab.overwrite(machine, 5 * PIECE, PIECE)
    shutil.rmtree(lab.root / "provider" / "tracking" / machine.machine_id)
    copied, point = lab.back_up(machine, "s2")
    assert copied.decision.mode is ReadMode.COMPARED
    assert "change tracking was lost" in copied.decision.reason
    assert copied.note == f"read in full and compared instead of only what changed: {copied.decision.reason}"
    assert copied.figures.transferred_bytes < 2 * PIECE, "only what differs is stored"
    assert lab.restored(machine, point) == lab.content(machine)


def test_a_change_that_tracking_left_out_is_found_and_everything_is_compared(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = LocalProvider.changed_spans

    def changed_spans(*arguments: Any) -> Iterator[Span]:
        return (span for span in usual(*arguments) if span.start != 5 * PIECE)

    machine = lab.add_machine(size_bytes=SIZE)
    lab.back_up(machine)
    lab.overwrite(machine, 5 * PIECE, PIECE)
    lab.overwrite(machine, 9 * PIECE, PIECE)
    monkeypatch.setattr(LocalProvider, "changed_spans", changed_spans)
    copied, point = lab.back_up(machine, "s2")
    assert copied.decision.mode is ReadMode.COMPARED
    assert copied.decision.reason == f"change tracking left a change out, found at offset {5 * PIECE}"
    assert "left a change out" in copied.note
    assert lab.restored(machine, point) == lab.content(machine)


def test_tracking_is_believed_when_nothing_shall_be_sampled(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = lab.add_machine(size_bytes=SIZE)
    lab.back_up(machine)
    lab.overwrite(machine, 5 * PIECE, PIECE)
    monkeypatch.setattr(LocalProvider, "changed_spans", lambda *_: iter(()))
    request = msgspec.structs.replace(lab.begun(machine, "s2"), sample_bytes=0)
    copied = run(lab.transfers.copy_disk, request)
    assert (copied.decision.mode, copied.note, copied.figures.read_bytes) == (ReadMode.CHANGED, "", 0)


def test_tracking_that_was_switched_off_is_noted(lab: Lab) -> None:
    machine = lab.add_machine(size_bytes=SIZE)
    lab.back_up(machine)
    lab.provider = LocalProvider(lab.root / "provider", lab.clock, change_tracking=False)
    copied, _ = lab.back_up(machine, "s2")
    assert copied.decision.mode is ReadMode.COMPARED
    assert "does not track changes" in copied.note


def test_a_provider_that_never_tracked_is_no_news(lab: Lab) -> None:
    lab.provider = LocalProvider(lab.root / "provider", lab.clock, change_tracking=False)
    machine = lab.add_machine(size_bytes=SIZE)
    lab.back_up(machine)
    copied, _ = lab.back_up(machine, "s2")
    assert (copied.decision.mode, copied.note) == (ReadMode.COMPARED, "")


def test_a_comparison_that_was_asked_for_is_no_news(lab: Lab) -> None:
    machine = lab.add_machine(size_bytes=SIZE)
    lab.back_up(machine)
    request = msgspec.structs.replace(lab.begun(machine, "s2"), distrust_changes=True)
    copied = run(lab.transfers.copy_disk, request)
    assert (copied.decision.mode, copied.note) == (ReadMode.COMPARED, "")
    assert copied.figures.transferred_bytes == 0


def test_a_disk_the_parent_did_not_have_is_read_in_full(lab: Lab) -> None:
    machine = lab.add_machine(size_bytes=SIZE)
    _, first = lab.back_up(machine)
    added = write_disk(lab.root / "added.raw", lab.chance, 4 * PIECE)
    other = lab.provider.add_machine("other", {DiskKey("disk1"): added})
    snapshot = lab.freeze(other, "s2")
    renamed = msgspec.structs.replace(snapshot.machine, machine_id=machine.machine_id, name=machine.name)
    opened = lab.begin(msgspec.structs.replace(snapshot, machine_id=machine.machine_id, machine=renamed))
    assert (opened.chain, opened.parent_number) == (first.chain, first.number)
    request = msgspec.structs.replace(lab.copy_request(snapshot, opened), disk=DiskKey("disk1"))
    assert run(lab.transfers.copy_disk, request).decision.mode is ReadMode.FULL


def breaking_off(monkeypatch: pytest.MonkeyPatch, good: int, failing: set[int]) -> None:
    """Let the calls of these numbers tell only the first spans of what changed."""
    usual = LocalProvider.changed_spans
    calls = iter(range(10))

    def changed_spans(*arguments: Any) -> Iterator[Span]:
        is_failing = next(calls) in failing
        for number, span in enumerate(usual(*arguments)):
            if is_failing and number == good:
                raise ChangeTrackingLost("asking for a later window")
            yield span

    monkeypatch.setattr(LocalProvider, "changed_spans", changed_spans)


CHANGES = (3, 9, 17, 30, 44)
"""Pieces that change; the ones from 16 to 32 are a hole before."""


@pytest.mark.parametrize("failing", [{0}, {1}, {0, 1}], ids=["for-the-steps", "for-the-samples", "for-both"])
@pytest.mark.parametrize("good", range(1, len(CHANGES)))
def test_tracking_that_is_lost_in_the_middle_leaves_an_increment_with_the_rest_compared(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, good: int, failing: set[int]
) -> None:
    machine = lab.add_machine(size_bytes=SIZE)
    lab.back_up(machine)
    for piece in CHANGES:
        lab.overwrite(machine, piece * PIECE, PIECE)
    breaking_off(monkeypatch, good, failing)
    request = lab.begun(machine, "s2")
    copied = run(lab.transfers.copy_disk, request)
    point = lab.finish(request.point)
    assert point.kind == "increment"
    assert copied.decision.mode is ReadMode.CHANGED
    known = (CHANGES[good - 1] + 1) * PIECE
    assert copied.decision.reason == f"change tracking was lost at offset {known}: asking for a later window"
    assert copied.note == f"compared from offset {known} on instead of only what changed: asking for a later window"
    assert len(CHANGES) * PIECE <= copied.figures.transferred_bytes < (len(CHANGES) + 1) * PIECE
    assert lab.restored(machine, point) == lab.content(machine)


def test_how_a_disk_was_read_is_kept_as_it_was_at_the_end(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = lab.add_machine(size_bytes=SIZE)
    lab.back_up(machine)
    lab.overwrite(machine, 3 * PIECE, PIECE)
    lab.overwrite(machine, 9 * PIECE, PIECE)
    breaking_off(monkeypatch, 1, {0})
    request = lab.begun(machine, "s2")
    copied = run(lab.transfers.copy_disk, request)
    lab.finish(request.point)
    assert lab.disk_of(request).detail == f"changed: {copied.decision.reason}"


def test_what_a_disk_says_of_its_reading_is_noted(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = LocalProvider.open_disk

    def open_disk(*arguments: Any) -> FrozenDisk:
        disk = usual(*arguments)
        assert isinstance(disk, FrozenDisk)
        disk.remarks = ["half of it was guessed"]
        return disk

    monkeypatch.setattr(LocalProvider, "open_disk", open_disk)
    copied, _ = lab.back_up(lab.add_machine(size_bytes=SIZE))
    assert copied.note == "half of it was guessed"

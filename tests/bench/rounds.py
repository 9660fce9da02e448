"""The rounds: in each one every tool does the same work on the same images, so that ratios are fair."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from tests.bench.child import Result
from tests.bench.ledger import MIB, Ledger
from tests.bench.measure import Measured
from tests.bench.ours import Ours
from tests.bench.peers import Borg, Restic, Zstd
from tests.bench.reference import Change

FULL = "Full"
INCREMENT = "Increment, 5 % changed"
RESTORE = "Restore"
VERIFY = "Verify"
SCRUB = "holdfast, scrub"
STAGES = "Where the time of a full goes, for 1 MiB of data"
KNOWN = "holdfast, changes known"
COMPARED = "holdfast, compares everything"
BARE = "the library calls of a full alone"
PEAK_MIB_MAX = 128


class Peer(Protocol):
    """Another tool that makes fulls and increments."""

    name: str

    def full(self, image: Path) -> tuple[Measured, int]: ...

    def increment(self, image: Path) -> tuple[Measured, int]: ...

    def restore(self) -> Measured: ...

    def clean(self) -> None: ...


def installed_peers(work: Path) -> list[Peer]:
    """Return the peers to compare with."""
    peers: list[Peer] = []
    if Borg.is_installed:
        peers.append(Borg(work))
    if Restic.is_installed:
        peers.append(Restic(work))
    return peers


def run_rounds(ledger: Ledger, changes: list[Change], peers: Sequence[Peer]) -> None:
    """Measure fulls, increments, restores and verification: of the engine, zstd where it is installed, and peers."""
    work = ledger.work
    _set_goals(ledger, changes)
    for _ in range(ledger.runs):
        floor_s = _run_zstd(ledger, Zstd(work))
        ours_s = _run_ours(ledger, Ours(work), changes)
        if floor_s is not None:
            ledger.add(FULL, f"holdfast / {Zstd.name}, wall", ours_s.wall_s / floor_s.wall_s, "x")
            ledger.add(FULL, f"holdfast / {Zstd.name}, processor", ours_s.cpu_s / floor_s.cpu_s, "x")
            _add_bare(ledger, Ours(work).bare(ledger.reference.path), ours_s, floor_s)
        for peer in peers:
            theirs = _run_peer(ledger, peer, changes[0])
            ledger.add(FULL, f"holdfast / {peer.name}, wall", ours_s.wall_s / theirs.wall_s, "x")
            ledger.add(FULL, f"holdfast / {peer.name}, processor", ours_s.cpu_s / theirs.cpu_s, "x")


def _set_goals(ledger: Ledger, changes: list[Change]) -> None:
    for name, most in ((Zstd.name, 0.9), (Borg.name, 0.5), (Restic.name, 0.35)):
        ledger.set_goal(FULL, f"holdfast / {name}, wall", most)
    ledger.set_goal(RESTORE, "holdfast, restore / full, wall", 1.0)
    ledger.set_goal(INCREMENT, f"{KNOWN}: wall", max(1.0, 1.5 * changes[0].changed_bytes / (256 * MIB)))
    for who in (KNOWN, COMPARED):
        ledger.set_goal(INCREMENT, f"{who}: stored / ideal", 1.3)
    ledger.set_floor(INCREMENT, f"{COMPARED}: read rate", 1536)
    ledger.set_floor(VERIFY, "holdfast: rate", 1024)
    ledger.set_floor(VERIFY, f"{SCRUB}: rate", 1024)
    for section, who in ((FULL, Ours.name), (RESTORE, Ours.name), (INCREMENT, KNOWN), (INCREMENT, COMPARED)):
        ledger.set_bound(section, f"{who}: peak memory", PEAK_MIB_MAX)


def _run_zstd(ledger: Ledger, zstd: Zstd) -> Measured | None:
    if not zstd.is_installed:
        return None
    full, stored = zstd.full(ledger.reference.path)
    ledger.add_run(FULL, zstd.name, full, stored)
    ledger.add_run(RESTORE, "zstd -d", zstd.restore())
    zstd.clean()
    return full


def _add_bare(ledger: Ledger, bare: Measured, ours: Measured, zstd: Measured) -> None:
    """Note the floor: what is left of a full without packing, deduplication, writing and commits."""
    ledger.add_run(FULL, BARE, bare)
    ledger.add(FULL, f"{BARE} / {Zstd.name}, wall", bare.wall_s / zstd.wall_s, "x")
    ledger.add(FULL, "holdfast / library calls alone, wall", ours.wall_s / bare.wall_s, "x")


def _run_peer(ledger: Ledger, peer: Peer, change: Change) -> Measured:
    full, stored = peer.full(ledger.reference.path)
    ledger.add_run(FULL, peer.name, full, stored)
    ledger.add_run(RESTORE, peer.name, peer.restore())
    increment, added = peer.increment(change.path)
    ledger.add_run(INCREMENT, f"{peer.name}, reads everything", increment, added)
    peer.clean()
    return full


def _run_ours(ledger: Ledger, ours: Ours, changes: list[Change]) -> Measured:
    full, result = ours.full(ledger.reference.path)
    ledger.add_run(FULL, ours.name, full, result.file_bytes)
    ledger.add(FULL, "holdfast: data rate", result.figures.read_bytes / MIB / result.seconds, "MiB/s")
    _add_stages(ledger, result)
    restored, _ = ours.restore()
    ledger.add_run(RESTORE, ours.name, restored)
    ledger.add(RESTORE, "holdfast, restore / full, wall", restored.wall_s / full.wall_s, "x")
    compared, _ = ours.restore(compare=True)
    ledger.add_run(RESTORE, "holdfast and read back", compared)
    verified, checked = ours.verify()
    ledger.add_run(VERIFY, ours.name, verified)
    ledger.add(VERIFY, "holdfast: rate", checked.file_bytes / MIB / checked.seconds, "MiB/s stored")
    for deep, name in ((False, SCRUB), (True, f"{SCRUB}, deep")):
        scrubbed, read = ours.scrub(deep=deep)
        ledger.add_run(VERIFY, name, scrubbed)
        ledger.add(VERIFY, f"{name}: rate", read.file_bytes / MIB / read.seconds, "MiB/s stored")
    _run_increments(ledger, ours, changes)
    ours.clean()
    return full


def _run_increments(ledger: Ledger, ours: Ours, changes: list[Change]) -> None:
    known, compared = changes
    measured, result = ours.increment("known", known.path, known.spans_file)
    who = KNOWN
    ledger.add_run(INCREMENT, who, measured, result.file_bytes)
    ledger.add(INCREMENT, f"{who}: stored / ideal", result.file_bytes / known.ideal_bytes, "x")
    measured, result = ours.increment("compared", compared.path)
    who = COMPARED
    ledger.add_run(INCREMENT, who, measured, result.file_bytes)
    ledger.add(INCREMENT, f"{who}: read rate", result.figures.read_bytes / MIB / result.seconds, "MiB/s")
    ledger.add(INCREMENT, f"{who}: stored / ideal", result.file_bytes / compared.ideal_bytes, "x")


def _add_stages(ledger: Ledger, result: Result) -> None:
    """Note how long each stage had a block, waiting for the interpreter lock and for a core included."""
    blocks = result.figures.read_bytes / MIB
    stages = result.stages
    for name, seconds in (
        ("read", stages.source_s),
        ("digest", stages.digest_s),
        ("encode, decode and compare", stages.encode_s),
        ("write", stages.target_s),
        ("wait for a commit", stages.commit_wait_s),
    ):
        ledger.add(STAGES, name, seconds / blocks * 1000, "ms")
    ledger.add(STAGES, "processor, all threads", result.cpu_s / blocks * 1000, "ms")
    ledger.add(STAGES, "processor, the thread that packs and writes", result.main_thread_s / blocks * 1000, "ms")

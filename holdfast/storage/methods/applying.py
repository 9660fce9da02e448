"""What a job's method wants of the newest chain of a machine, looked up and carried out."""

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec

from holdfast.errors import DataError, PassphraseWrong, PointNotFound
from holdfast.model.fulls import MethodOptions, PointKind
from holdfast.model.points import PointSummary
from holdfast.model.retention import Method
from holdfast.planning.compacting import CompactDecision, CompactFacts, plan_compact
from holdfast.planning.full_days import FullDecision, FullFacts, plan_point
from holdfast.storage.chains.chain import Chain, chain_file_names
from holdfast.storage.chains.changeable import changeable
from holdfast.storage.chains.repository import Repository
from holdfast.storage.intake.finishing import summarize
from holdfast.storage.intake.fulls import full_day
from holdfast.storage.methods.compacting import compact, drop_remains, looseness
from holdfast.storage.methods.reversing import ReverseOptions, make_newest_full
from holdfast.storage.methods.synthesis import synthesize


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What was done with a chain, and why; or why nothing was."""

    reason: str
    what: str = ""
    moved_bytes: int = 0
    shared_bytes: int = 0
    displaced_bytes: int = 0
    freed_bytes: int = 0
    moved: tuple[PointSummary, ...] = ()
    """Points that are in other files now, where they are."""


class ChainWish(msgspec.Struct, frozen=True, kw_only=True):
    """What is wanted of a chain."""

    options: MethodOptions
    began: datetime
    is_asked_for: bool = False


def newest_chain(repository: Repository, machine_folder: Path, passphrase: str | None) -> Path:
    """Return the folder of the newest chain with a finished point. Raises `PointNotFound`."""
    for folder in reversed(repository.job_chains(machine_folder)):
        if chain_file_names(repository.files, folder):
            with Chain.open(repository.files, folder, passphrase) as chain:
                chain.check_whole()
                if chain.newest() is not None:
                    return folder
    raise PointNotFound(f"{machine_folder.name} has no finished restore point")


def apply_method(
    repository: Repository, folder: Path, passphrase: str | None, wish: ChainWish, report: Callable[[int], None]
) -> Change:
    """Do with a chain what its method wants now that its newest point is there; goes on where an earlier run stopped.

    ``report`` gets the bytes moved so far. Raises what `make_newest_full` and `synthesize` raise.
    """
    if wish.options.method is Method.REVERSE and not wish.is_asked_for:
        with changeable(repository.files, folder):
            return _reverse(repository, folder, passphrase, wish, report)
    begun = _begun_before(repository, folder, passphrase)
    if begun is not None:
        folder, decision = begun, FullDecision(kind=PointKind.SYNTHETIC, reason="it was begun before")
    else:
        with Chain.open(repository.files, folder, passphrase) as chain:
            decision = _decide(chain, wish)
    if decision.kind is not PointKind.SYNTHETIC:
        return Change(reason=decision.reason)
    with changeable(repository.files, folder):
        summary, result = synthesize(repository, repository.relative(folder), passphrase, report)
    if not result.units and summary.chain == repository.relative(folder):
        return Change(reason="the newest point is a full already")
    return Change(
        reason=decision.reason,
        what="synthetic full",
        moved_bytes=result.moved_bytes,
        shared_bytes=result.shared_bytes,
        moved=(summary,),
    )


def compact_if_due(
    repository: Repository, folder: Path, passphrase: str | None, wish: ChainWish, report: Callable[[int], None]
) -> Change:
    """Compact the full of a chain when it is due and loose, or when that was asked for."""
    files = repository.files
    with Chain.open(files, folder, passphrase) as chain:
        found = looseness(chain)
    if found is None:
        return Change(reason="the chain has no complete full")
    today = wish.began.astimezone(ZoneInfo(wish.options.fulls.timezone)).date()
    decision: CompactDecision = plan_compact(
        wish.options.compact,
        CompactFacts(
            today=today,
            file_bytes=found.file_bytes,
            needed_bytes=found.needed_bytes,
            is_asked_for=wish.is_asked_for,
        ),
    )
    if not decision.is_due:
        drop_remains(files, folder)  # of one that was not finished on its day
        return Change(reason=decision.reason)
    with changeable(files, folder):
        result = compact(files, folder, passphrase, report)
    with Chain.open(files, folder, passphrase) as chain:
        now = looseness(chain)
        pairs = [pair for pair in chain.points() if pair[0].path.name == found.name]
        moved = tuple(summarize(repository, folder, *pair) for pair in pairs)
    return Change(
        reason=decision.reason,
        what="compacted",
        moved_bytes=result.moved_bytes,
        shared_bytes=result.shared_bytes,
        freed_bytes=0 if now is None else max(0, found.file_bytes - now.file_bytes),
        moved=moved,
    )


def _begun_before(repository: Repository, folder: Path, passphrase: str | None) -> Path | None:
    """Return the chain before, when its newest point is the full of this one: an earlier run left it there."""
    files = repository.files
    earlier = [found for found in repository.job_chains(folder.parent) if found.name < folder.name]
    earlier = [found for found in earlier if chain_file_names(files, found)]
    if not earlier:
        return None
    # An older chain that cannot be read is the business of verification.
    with suppress(DataError, PassphraseWrong), Chain.open(files, earlier[-1], passphrase) as old:
        newest = old.newest()
        with Chain.open(files, folder, passphrase) as chain:
            _, first = chain.points()[0]
        if newest is not None and newest[1].root == first.root:
            return earlier[-1]
    return None


def _decide(chain: Chain, wish: ChainWish) -> FullDecision:
    policy = wish.options.fulls
    if wish.is_asked_for:
        return FullDecision(kind=PointKind.SYNTHETIC, reason="it was asked for")
    # What the machine had to give anew is decided before its point is begun.
    only_synthetic = msgspec.structs.replace(policy, active=None)
    today = wish.began.astimezone(ZoneInfo(policy.timezone)).date()
    return plan_point(only_synthetic, FullFacts(today=today, last_full=full_day(chain, ZoneInfo(policy.timezone))))


def _reverse(
    repository: Repository, folder: Path, passphrase: str | None, wish: ChainWish, report: Callable[[int], None]
) -> Change:
    files = repository.files
    options = ReverseOptions(compression=wish.options.compression)
    result = make_newest_full(files, folder, passphrase, report, options)
    with Chain.open(files, folder, passphrase) as chain:
        points = chain.points()[-max(result.points + 1, 2) :]
        # Also when an earlier run did it and died before it could tell.
        moved = tuple(summarize(repository, folder, *pair) for pair in points if pair[1].complete)
    if not result.points:
        return Change(reason="the newest point is the full already", moved=moved)
    return Change(
        reason="the newest point is the full",
        what=f"{result.points} points became rollbacks" if result.points > 1 else "the point before became a rollback",
        moved_bytes=result.moved_bytes,
        shared_bytes=result.shared_bytes,
        displaced_bytes=result.displaced_bytes,
        moved=moved,
    )

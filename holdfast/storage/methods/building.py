"""A chain file that is being built from others: begun, found again after a crash, or begun anew when they changed."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from holdfast.errors import FileDamaged, FormatUnknown
from holdfast.faults import reach
from holdfast.formats.contents import Contents
from holdfast.formats.keys import ChainKeys
from holdfast.formats.magic import FileKind
from holdfast.model.reads import ReadSpan
from holdfast.storage.chain_files.chain_file import SUSPECT_SUFFIX, ChainFile
from holdfast.storage.chain_files.chain_writer import FileSpec
from holdfast.storage.chain_files.rewriter import ChainRewriter
from holdfast.storage.files.atomic import Files
from holdfast.storage.health.health_file import bad_units, read_health
from holdfast.storage.health.verifier import BadUnits
from holdfast.storage.methods.gathering import Gatherer, GatherResult, Needs
from holdfast.storage.methods.read_times import carried_times


class End(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done when all units of a file are there."""

    note_times: Callable[[str, tuple[ReadSpan, ...]], None]
    """Before it is complete: gets its id and when its units were last read, unless that is now."""
    finish: Callable[[], None] = lambda: None
    """While it is still locked."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be built."""

    path: Path
    file_id: str
    """For a new file one of its own; for one that takes the place of another, that one's."""
    holds: tuple[int, int]
    commit_bytes: int
    after_generation: int = 0


def build_full(
    files: Files,
    needs: Needs,
    plan: Plan,
    report: Callable[[int], None],
    end: End,
) -> GatherResult:
    """Build a complete full of all that points need.

    An earlier run is gone on with when it began with the same files in the same state, and nothing of them is known to
    be damaged since; else what it left is removed. Raises `RepositoryFull` before a unit is written, and `ChainBusy`.
    """
    keys = needs.file.keys
    health = read_health(files, needs.chain.folder)
    bad = bad_units(health)
    is_there = _is_usable(files, needs, plan, bad)
    if not is_there:
        for path in (plan.path, plan.path.with_name(plan.path.name + SUSPECT_SUFFIX)):
            files.remove(path)
    with _open(files, needs, plan, keys, is_there=is_there) as writer:
        reach("build.opened")
        writer.known_bad = bad
        if not writer.contents.points:
            writer.expect(needs.room(writer.next_unit))

        def before_end() -> None:
            if writer.shared_bytes or not writer.copied_bytes:  # an earlier run may have shared all there is
                end.note_times(writer.contents.file, carried_times(health, writer, needs.order()))

        result = Gatherer(writer, needs, plan.commit_bytes).run(report, before_end)
        reach("build.complete")
        end.finish()
    return result


def _open(files: Files, needs: Needs, plan: Plan, keys: ChainKeys, *, is_there: bool) -> ChainRewriter:
    if is_there:
        return ChainRewriter.resume(files, plan.path, keys=keys)
    contents = Contents(
        chain=keys.chain_id.hex(),
        file=plan.file_id,
        kind=FileKind.FULL.name.lower(),
        unit_size=needs.file.superblock.unit_size,
        created=needs.file.contents.created,
        holds=plan.holds,
        moving=needs.moving(),
    )
    spec = FileSpec(
        kind=FileKind.FULL,
        unit_size=contents.unit_size,
        contents=contents,
        after_generation=plan.after_generation,
    )
    return ChainRewriter.create(files, plan.path, spec, keys)


def _is_usable(files: Files, needs: Needs, plan: Plan, bad: BadUnits) -> bool:
    """Return whether what an earlier run left can be gone on with."""
    if not files.exists(plan.path):
        return False
    # What cannot be read is only a copy, which is begun anew.
    with suppress(FileDamaged, FormatUnknown), ChainFile.open(files, plan.path, keys=needs.file.keys) as found:
        if found.contents.points:
            is_new = found.superblock.generation > plan.after_generation
            return is_new and [point.root for point in found.contents.points] == needs.roots
        # What moved in as shared blocks was not read then.
        return found.contents.moving == needs.moving() and not any(file.contents.file in bad for file in needs.files)
    return False

"""Repairs what is damaged in a chain, as far as it can be, and says what cannot.

In this order: a lost superblock is written again; machine files and notes are stored again; a file whose tables are
damaged is rebuilt from its records; increments that cannot be rebuilt are set aside with those behind them; lost pieces
are stored again from wherever the same bytes are: in the chain, in another one of the machine, in a copy; and the
metadata is written anew from the files.
Everything is written to fresh space or beside the old, and counts with a commit.
"""

from collections.abc import Sequence
from contextlib import closing
from typing import Final

import msgspec

from holdfast.errors import (
    ChainBroken,
    DataError,
    FileDamaged,
    FormatTooNew,
    FormatUnknown,
    PassphraseWrong,
    RepositoryFull,
)
from holdfast.faults import reach
from holdfast.formats.chain_metadata import ChainMetadata
from holdfast.model.health import RepairReport
from holdfast.model.points import Damage
from holdfast.storage.chain_files.chain_file import ChainFile, is_never_committed
from holdfast.storage.chain_files.rewriter import ChainRewriter
from holdfast.storage.chains.chain import Chain
from holdfast.storage.chains.changeable import changeable
from holdfast.storage.chains.metadata import check_against_metadata, check_links, read_metadata, refresh_metadata
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.chain_lock import acquire_chain_lock
from holdfast.storage.health.folder import finish_rebuilds, open_readable, rebuild_file
from holdfast.storage.health.health_file import (
    bad_units,
    change_health,
    points_of,
    read_health,
    without_files,
    without_problems,
    without_units,
)
from holdfast.storage.health.lost_pieces import PieceSource, SameDigests, SamePlaces
from holdfast.storage.health.marking import assess_chain, chain_damage
from holdfast.storage.health.record_repair import RecordRepair, lost_records
from holdfast.storage.health.scrubber import FileScrub
from holdfast.storage.health.setting_aside import files_behind, set_aside
from holdfast.storage.health.unit_repair import LostUnit, UnitRepair, lost_units
from holdfast.storage.health.verifier import BadUnits

DAMAGES_NAMED_MAX: Final = 50


class OtherChain(msgspec.Struct, frozen=True, kw_only=True):
    """Another chain that may have the same bytes, opened by whoever asks for a repair."""

    chain: Chain
    is_copy: bool
    """Whether it is in another repository."""


class ChainRepair:
    """Repairs one chain of a repository. ``passphrase`` opens it. Raises `ChainBusy` when it is being written."""

    def __init__(
        self, repository: Repository, name: str, passphrase: str | None, others: Sequence[OtherChain] = ()
    ) -> None:
        self._repository = repository
        self._files = repository.files
        self._name = name
        self._folder = repository.chain_folder(name)
        self._passphrase = passphrase
        self._others = others
        self._report = RepairReport(chains=1)

    def run(self) -> RepairReport:
        """Repair, and return what was done and what is still damaged. Raises `PassphraseWrong`.

        Of a chain of which a later version wrote a file nothing is changed. Files that are unchangeable for a locked
        point are repaired, too: no point goes by it.
        """
        with changeable(self._files, self._folder):
            return self._run()

    def _run(self) -> RepairReport:
        damages: list[Damage] = []
        try:
            self._repair_structures()
            self._repair_units()
            damages += self._repair_metadata()
            with self._open() as chain:
                found, marks = assess_chain(self._files, self._name, chain)
        except PassphraseWrong:
            raise
        except DataError as error:
            return self._with_damages([chain_damage(self._name, error.message)])
        self._note(points=points_of(self._name, marks))
        return self._with_damages([*damages, *found])

    def _with_damages(self, damages: Sequence[Damage]) -> RepairReport:
        return msgspec.structs.replace(
            self._report,
            damages=tuple(damages[:DAMAGES_NAMED_MAX]),
            unnamed_damages=len(damages[DAMAGES_NAMED_MAX:]),
        )

    def _open(self) -> Chain:
        return self._repository.open_chain(self._name, self._passphrase)

    def _note(self, **changes: object) -> None:
        self._report = msgspec.structs.replace(self._report, **changes)

    # -- metadata ------------------------------------------------------------------------------------------------

    def _repair_metadata(self) -> list[Damage]:
        """Write the metadata anew when it is damaged and the files are not: they are what it was made from."""
        with self._open() as chain:
            if not chain.files or chain.unreadable:
                return []
            try:
                metadata = read_metadata(self._files, self._folder, chain.files[0].keys)
            except (FileDamaged, FormatUnknown):
                metadata = None
            else:
                return _links(self._name, chain, metadata)
            found = _links(self._name, chain, None)
        if not found:
            self._refresh()
            self._note(metadata=(self._name,))
        return found

    def _refresh(self) -> None:
        lock = acquire_chain_lock(self._files, self._folder)
        try:
            refresh_metadata(self._files, self._folder, self._passphrase)
        finally:
            lock.close()

    # -- structures ----------------------------------------------------------------------------------------------

    def _repair_structures(self) -> None:
        broken = self._broken_files()
        for name in finish_rebuilds(self._files, self._folder, self._passphrase):
            self._note_rebuilt(name, name)
        for name in broken:
            self._commit_again(name)
        self._repair_records()
        for name in self._broken_files():
            self._rebuild(name)
        broken = self._broken_files()
        going = files_behind(self._files, self._folder, self._broken_files(needed_only=True))
        if going:
            set_aside(self._files, self._folder, self._passphrase, going)
            self._note(set_aside=tuple(f"{self._name}/{name}" for name in going))
        with self._open() as chain:
            sound = {file.contents.file for file in chain.files if file.path.name not in broken}
        change_health(self._files, self._folder, lambda health: without_problems(health, sound))

    def _broken_files(self, *, needed_only: bool = False) -> list[str]:
        """Return the names of the complete files that cannot be opened, or have lost a superblock or a table.

        A file of another chain is none of ours. Raises `FormatTooNew` for one that a later version wrote: what this
        one knows of the chain is not enough to change it.
        """
        chain, problems = open_readable(self._files, self._folder, self._passphrase)
        with chain:
            for one in problems:
                if isinstance(one.error, FormatTooNew):
                    raise one.error
            own = [one.name for one in problems if not isinstance(one.error, ChainBroken)]
            broken = [name for name in own if not is_never_committed(self._files, self._folder / name)]
            broken += [
                file.path.name
                for file in chain.files
                if file.is_complete and FileScrub(file, lambda _: None).tables(needed_only=needed_only)
            ]
        return sorted(broken)

    def _commit_again(self, name: str) -> None:
        """Write both superblocks and their contents pages again, which is enough when nothing else is lost."""
        try:
            with ChainRewriter.resume(self._files, self._folder / name, self._passphrase) as writer:
                writer.spare_readers()
                writer.commit_whole()
                writer.commit_whole()
        except PassphraseWrong:
            raise
        except DataError:
            return  # more is lost than that; it is looked at again
        reach("repair.again")
        self._refresh()

    def _rebuild(self, name: str) -> None:
        path = self._folder / name
        with closing(self._files.open(path)) as handle:
            size = handle.size()
        free = self._files.free_bytes(self._folder)
        if free < size:
            raise RepositoryFull(f"rebuilding {path} may need {size} bytes beside it, {free} are free")
        try:
            report = rebuild_file(self._files, self._folder, name, self._passphrase)
        except DataError:
            return  # it stays as it is, and is named as damaged
        reach("repair.rebuilt")
        self._note_rebuilt(name, report.kept_as)

    def _note_rebuilt(self, name: str, told_as: str) -> None:
        """Forget what was known of the units of a file, whose bytes are others now."""
        self._note(rebuilt=(*self._report.rebuilt, f"{self._name}/{told_as}"))
        with self._open() as chain:
            rebuilt = {file.contents.file for file in chain.files if file.path.name == name}
        change_health(self._files, self._folder, lambda health: without_files(health, rebuilt))
        self._refresh()

    def _repair_records(self) -> None:
        """Store lost machine files and notes again; no disk needs them, so what is not found stays as it is."""
        others = [other.chain for other in self._others]
        chain, _ = open_readable(self._files, self._folder, self._passphrase)
        with chain:
            for file in chain.files:
                lost = lost_records(file)
                if file.is_complete and (lost.files or lost.notes):
                    done = RecordRepair(self._files, chain, file, others).run(lost)
                    names = tuple(f"{self._name}/{file.path.name}: {name}" for name in done.files)
                    self._note(files=self._report.files + names, notes=self._report.notes + done.notes)
        if self._report.files or self._report.notes:
            self._refresh()

    # -- units ---------------------------------------------------------------------------------------------------

    def _repair_units(self) -> None:
        bad = bad_units(read_health(self._files, self._folder))
        with self._open() as chain:
            for file in chain.files:
                if file.is_complete and file.contents.file in bad:
                    self._repair_file(chain, file, bad)

    def _repair_file(self, chain: Chain, file: ChainFile, bad: BadUnits) -> None:
        try:
            lost, fine = lost_units(file, bad[file.contents.file])
        except DataError:
            return  # its tables are damaged, too, and nobody can say what was in the units
        healed = set(fine)
        if lost:
            sources = self._sources(chain, lost, bad)
            done = UnitRepair(self._files, file, [source for _, source in sources]).run(lost)
            healed |= set(done.healed)
            for (field, _), count in zip(sources, done.pieces, strict=True):
                self._count(field, count)
            if any(done.pieces):
                self._refresh()
        change_health(self._files, self._folder, lambda health: without_units(health, file.contents.file, healed))

    def _sources(self, chain: Chain, lost: Sequence[LostUnit], bad: BadUnits) -> list[tuple[str, PieceSource]]:
        """Return where to look, in order, each with the field of the report that counts it."""
        key = chain.files[0].keys.digest_key
        wanted = {piece.digest for unit in lost for piece in unit.pieces.values()}
        found: list[tuple[str, PieceSource]] = [("from_chain", SameDigests(chain, wanted, bad))]
        for other in self._others:
            if not other.chain.files:
                continue
            field = "from_copies" if other.is_copy else "from_chains"
            if other.chain.files[0].keys.digest_key == key:
                found.append((field, SameDigests(other.chain, wanted, {})))
            else:
                found.append((field, SamePlaces(other.chain, key)))
        return found

    def _count(self, field: str, count: int) -> None:
        known = getattr(self._report, field)
        self._note(repaired_pieces=self._report.repaired_pieces + count, **{field: known + count})


def _links(name: str, chain: Chain, metadata: ChainMetadata | None) -> list[Damage]:
    """Return what is wrong with how the files of a chain belong together."""
    try:
        if metadata is None:
            check_links(chain)
        else:
            check_against_metadata(chain, metadata)
    except ChainBroken as error:
        return [chain_damage(name, error.message)]
    return []

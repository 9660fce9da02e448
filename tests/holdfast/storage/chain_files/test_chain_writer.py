"""A chain file is written to fresh space and committed by one of two superblocks."""

import threading
from pathlib import Path

import msgspec
import pytest
from typing_extensions import override

from holdfast.clock import SystemClock
from holdfast.errors import ChainBusy, LimitExceeded, RepositoryFull, StoreFailed, SyncFailed, WriterFenced
from holdfast.faults import set_hook
from holdfast.formats.contents import Contents
from holdfast.formats.keys import ChainKeys, new_encrypted_keys, plain_keys
from holdfast.formats.magic import (
    ALIGNMENT,
    CONTENTS_SIZE_MAX,
    PIECE_SIZE,
    PLACES_MAX,
    RECORDS_START,
    Codec,
    FileKind,
    FileState,
)
from holdfast.formats.record import HEADER_SIZE, PieceEntry, unpack_header
from holdfast.storage.chain_files.chain_file import SUSPECT_SUFFIX, ChainFile, read_states
from holdfast.storage.chain_files.chain_writer import ChainWriter, FileSpec
from holdfast.storage.files.chain_lock import LOCK_NAME
from holdfast.testing.chains import CHEAP
from holdfast.testing.crashfs import CrashFiles

UNIT = 256 << 10
FOLDER = Path("/chain")
PATH = FOLDER / "00000001-full.hfc"
CHAIN = bytes(range(16))


def spec(**extra: object) -> FileSpec:
    contents = Contents(
        chain=CHAIN.hex(),
        file=bytes(range(16, 32)).hex(),
        kind="full",
        unit_size=UNIT,
        created=SystemClock().now(),
        holds=(1, 1),
    )
    return FileSpec(kind=FileKind.FULL, unit_size=UNIT, contents=msgspec.structs.replace(contents, **extra))


def make(files: CrashFiles, keys: ChainKeys | None = None) -> ChainWriter:
    files.make_folder(FOLDER)
    return ChainWriter.create(files, PATH, spec(), keys if keys is not None else plain_keys(CHAIN))


def add_unit(writer: ChainWriter, fill: int) -> int:
    number = writer.reserve_unit()
    stamp = writer.stamp(1)
    body = bytes([fill]) * PIECE_SIZE
    record = writer.sealer.unit(stamp, [PieceEntry(bytes(8), fill, bytes([fill]) * 16)], Codec.NONE, body)
    writer.write_unit(number, stamp, [bytes([fill]) * 16], record)
    return number


def test_a_new_file_has_one_commit_and_can_be_read(files: CrashFiles) -> None:
    with make(files) as writer:
        assert writer.committed.generation == 1
    with ChainFile.open(files, PATH) as file:
        assert (file.is_complete, file.contents) == (False, writer.contents)


def test_units_of_a_commit_are_read_back_and_later_ones_are_not_there(files: CrashFiles) -> None:
    with make(files) as writer:
        for fill in range(1, 4):
            add_unit(writer, fill)
        writer.commit()
        add_unit(writer, 9)
    with ChainFile.open(files, PATH) as file:
        assert file.contents.units.count == 3
        assert [bytes(file.read_unit(number)[1][:1]) for number in range(3)] == [b"\1", b"\2", b"\3"]
        assert file.digest(4) == bytes([2]) * 16
        assert file.unit(3) is None


def test_a_resumed_writer_goes_on_at_the_last_commit(files: CrashFiles) -> None:
    with make(files) as writer:
        add_unit(writer, 1)
        writer.commit()
        end = writer.end
        add_unit(writer, 2)
    with ChainWriter.resume(files, PATH) as writer:
        assert (writer.next_unit, writer.end) == (1, end)
        assert add_unit(writer, 3) == 1
        writer.commit()
    with ChainFile.open(files, PATH) as file:
        assert [bytes(file.read_unit(number)[1][:1]) for number in range(2)] == [b"\1", b"\3"]


def test_two_writers_of_a_chain_do_not_exist(files: CrashFiles) -> None:
    with make(files) as writer:
        with pytest.raises(ChainBusy, match="chain"):
            ChainWriter.resume(files, PATH)
        with pytest.raises(ChainBusy):
            ChainWriter.create(files, FOLDER / "00000002-increment.hfc", spec(), plain_keys(CHAIN))
        writer.commit()
    ChainWriter.resume(files, PATH).close()
    assert not files.open_handles


class Lockless(CrashFiles):
    """A network mount that lost its locks: everybody gets them."""

    @override
    def lock_inode(self, inode: int, handle: object, *, shared: bool = False) -> bool:
        del inode, handle, shared
        return True


def test_a_writer_that_was_overtaken_is_fenced_at_its_next_commit() -> None:
    files = Lockless([Path("/")])
    first = make(files)
    add_unit(first, 1)
    first.commit()
    second = ChainWriter.resume(files, PATH)
    add_unit(second, 2)
    second.commit()
    with pytest.raises(WriterFenced, match="of another writer"):
        first.commit()
    with pytest.raises(WriterFenced):
        first.commit()
    first.close()
    second.commit()
    second.close()
    with ChainFile.open(files, PATH) as file:
        assert file.contents.units.count == 2


def test_a_writer_that_opened_later_and_never_committed_fences_nobody() -> None:
    files = Lockless([Path("/")])
    first = make(files)
    ChainWriter.resume(files, PATH).close()
    first.commit()
    first.close()


def test_after_a_failed_write_nothing_of_that_opening_is_committed(files: CrashFiles) -> None:
    writer = make(files)
    add_unit(writer, 1)
    writer.commit()
    files.quota = 0
    with pytest.raises(RepositoryFull):
        add_unit(writer, 2)
    files.quota = None
    with pytest.raises(RepositoryFull):
        writer.commit()
    with pytest.raises(RepositoryFull):
        add_unit(writer, 3)
    writer.close()
    with ChainFile.open(files, PATH) as file:
        assert (file.superblock.generation, file.contents.units.count) == (2, 1)


def test_a_full_file_system_during_the_tables_leaves_the_last_commit(files: CrashFiles) -> None:
    writer = make(files)
    add_unit(writer, 1)
    files.quota = len(files.content(PATH)) + 100
    with pytest.raises(RepositoryFull):
        writer.commit()
    writer.close()
    files.quota = None
    with ChainWriter.resume(files, PATH) as again:
        assert again.committed.generation == 1
        add_unit(again, 1)
        again.commit()


def test_an_unforeseen_error_in_the_background_ends_the_writer_too(files: CrashFiles) -> None:
    # A second try would write the next generation over the newest good superblock.
    writer = make(files)

    def fail(name: str) -> None:
        if name == "commit.before_flip":
            raise ZeroDivisionError

    set_hook(fail)
    try:
        with pytest.raises(ZeroDivisionError):
            writer.commit()
    finally:
        set_hook(None)
    with pytest.raises(ZeroDivisionError):
        writer.commit()
    writer.close()
    with ChainFile.open(files, PATH) as file:
        assert file.superblock.generation == 1


class Forgetful(CrashFiles):
    """Storage that takes writes of superblocks and keeps something else."""

    is_forgetful = False

    @override
    def write_inode(self, inode: int, path: Path, offset: int, data: bytes) -> None:
        lost = self.is_forgetful and offset < RECORDS_START
        super().write_inode(inode, path, offset, bytes(len(data)) if lost else data)


def test_a_commit_is_read_back_before_it_counts() -> None:
    files = Forgetful([Path("/")])
    with make(files) as writer:
        files.is_forgetful = True
        with pytest.raises(StoreFailed, match="the superblock does not read back"):
            writer.commit()
    with ChainFile.open(files, PATH) as file:
        assert file.superblock.generation == 1


def test_what_a_dead_process_left_in_the_cache_is_flushed_before_anything_is_built_on_it(files: CrashFiles) -> None:
    make(files).close()
    events = len(files.events)
    ChainWriter.resume(files, PATH).close()
    assert [event.kind for event in files.events[events:]] == ["write", "sync"]
    with ChainWriter.resume(files, PATH) as writer:
        writer.commit_complete()
    before, events = files.content(PATH), len(files.events)
    ChainWriter.resume(files, PATH).close()
    assert [event.kind for event in files.events[events:]] == ["write", "sync", "write", "sync"]
    assert files.content(PATH) == before


def test_contents_that_no_reader_would_take_are_refused_before_they_count(files: CrashFiles) -> None:
    writer = make(files)
    writer.contents = msgspec.structs.replace(writer.contents, kind="x" * CONTENTS_SIZE_MAX)
    with pytest.raises(LimitExceeded, match="bytes of contents"):
        writer.commit()
    writer.close()
    with ChainFile.open(files, PATH) as file:
        assert file.superblock.generation == 1


def test_a_file_holds_no_more_units_than_places_can_name(files: CrashFiles) -> None:
    with make(files) as writer:
        writer.next_unit = PLACES_MAX // writer.pieces_per_unit - 1
        writer.reserve_unit()
        with pytest.raises(LimitExceeded, match="most units"):
            writer.reserve_unit()


def test_a_complete_file_says_so_in_both_superblocks_and_is_not_written_again(files: CrashFiles) -> None:
    with make(files) as writer:
        add_unit(writer, 1)
        writer.commit_complete()
    before = files.content(PATH)
    handle = files.open(PATH)
    states = read_states(handle, None)
    handle.close()
    assert [block.state for _, block in states] == [FileState.COMPLETE] * 2
    with ChainWriter.resume(files, PATH) as writer:
        writer.commit_complete()
    assert files.content(PATH) == before


def test_many_commits_do_not_let_a_file_grow_without_end(files: CrashFiles) -> None:
    with make(files) as writer:
        add_unit(writer, 1)
        for _ in range(5):
            writer.commit()
        size = writer.end
        for _ in range(200):
            writer.commit()
        assert writer.end == size


def test_commits_of_growing_tables_reuse_most_of_their_space(files: CrashFiles) -> None:
    with make(files) as writer:
        for fill in range(300):
            add_unit(writer, fill % 250)
            writer.commit()
        units = 300 * (PIECE_SIZE + ALIGNMENT)
        assert writer.end - units < 60 * ALIGNMENT


def test_units_go_on_being_written_while_a_commit_is_on_its_way(files: CrashFiles) -> None:
    reached, go_on = threading.Event(), threading.Event()

    def wait(name: str) -> None:
        if name == "commit.before_sync":
            reached.set()
            assert go_on.wait(30)

    with make(files) as writer:
        add_unit(writer, 1)
        set_hook(wait)
        try:
            writer.start_commit()
            assert reached.wait(30)
            during = writer.is_committing
            add_unit(writer, 2)
        finally:
            go_on.set()
            writer.finish_commit()
            set_hook(None)
        assert (during, writer.is_committing) == (True, False)
        with ChainFile.open(files, PATH) as file:
            assert file.contents.units.count == 1
        writer.commit()
    with ChainFile.open(files, PATH) as file:
        assert [bytes(file.read_unit(number)[1][:1]) for number in range(2)] == [b"\1", b"\2"]


def test_no_nonce_is_used_twice_under_a_key_however_often_the_file_is_opened(files: CrashFiles) -> None:
    # Every record that was ever written is looked at, those of attempts that came to nothing too.
    keys = new_encrypted_keys(CHAIN, "correct horse", bytes(60), CHEAP)
    make(files, keys).close()
    for attempt in range(6):
        with ChainWriter.resume(files, PATH, keys=keys) as writer:
            for fill in range(3):
                add_unit(writer, fill)
                if (attempt + fill) % 2:
                    writer.commit()
    nonces: list[tuple[bytes, int, int]] = []
    for event in files.events:
        if event.kind == "write" and event.offset >= RECORDS_START:
            header = unpack_header(event.data[:HEADER_SIZE])
            nonces.append((header.stamp.key_id, header.stamp.generation, header.stamp.number))
    assert len(nonces) > 30
    assert len(set(nonces)) == len(nonces)
    assert len({key_id for key_id, _, _ in nonces}) == 7


def test_an_unfinished_file_whose_flush_failed_loses_its_name(files: CrashFiles) -> None:
    writer = make(files)
    add_unit(writer, 1)
    files.fail_sync = lambda _number, _waiting: ()
    with pytest.raises(SyncFailed, match="sync of"):
        writer.commit()
    writer.close()
    assert [path.name for path in files.paths()] == [PATH.name + SUSPECT_SUFFIX, LOCK_NAME]


def test_a_complete_file_keeps_its_name_when_a_flush_fails(files: CrashFiles) -> None:
    with make(files) as writer:
        writer.commit_complete()
    with ChainWriter.resume(files, PATH) as writer:
        files.fail_sync = lambda _number, _waiting: ()
        with pytest.raises(SyncFailed, match="sync of"):
            writer.commit(FileState.COMPLETE)
    assert files.exists(PATH)
    with ChainFile.open(files, PATH) as file:
        assert file.is_complete


def test_closing_twice_is_closing_once(files: CrashFiles) -> None:
    writer = make(files)
    writer.close()
    writer.close()
    assert not files.open_handles


def test_a_file_that_cannot_be_made_leaves_no_lock(files: CrashFiles) -> None:
    make(files).close()
    with pytest.raises(StoreFailed, match="File exists"):
        make(files)
    assert not files.open_handles

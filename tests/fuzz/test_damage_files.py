"""Files that are older than they were, gone, not the chain's, or damaged metadata: all of it is noticed."""

import pytest

from holdfast.errors import ChainBroken, FileDamaged, PointNotFound
from holdfast.formats.magic import SUPERBLOCK_SIZE
from holdfast.model.ids import SessionId
from holdfast.storage.chains.metadata import METADATA_NAME, read_metadata, refresh_metadata
from holdfast.storage.health.folder import verify_folder
from holdfast.storage.intake.finishing import finish_point
from holdfast.storage.intake.lifecycle import begin_point
from tests.fuzz.damage import KEY, SmallChain
from tests.fuzz.verdicts import begin_again

# -- files that are older than they were, gone, or not the chain's -----------------------------------------


@pytest.mark.parametrize("rolled_back", [0, 1, 2])
def test_a_file_that_was_rolled_back_is_never_removed_or_continued(rolled_back: int, made: SmallChain) -> None:
    chain = SmallChain(15, made.store.passphrase, points=3)
    path = chain.paths[rolled_back]
    # Make an earlier state of this very file: play the last session up to its beginning once more.
    events = [e for e in chain.files.events if e.path == path and e.kind == "write"]
    early = bytearray()
    for event in events[:2]:
        early.extend(bytes(max(0, event.offset + len(event.data) - len(early))))
        early[event.offset : event.offset + len(event.data)] = event.data
    chain.files.set_content(path, bytes(early))
    with pytest.raises(ChainBroken, match=r"rolled back|missing or another one"):
        begin_again(chain)
    assert chain.files.content(path) == bytes(early)
    report = verify_folder(chain.files, chain.folder, chain.store.passphrase, lambda _: None)
    assert not report.is_good
    with chain.open() as opened:
        for number in range(1, rolled_back + 1):
            opened.disk(number, KEY)
        for number in range(rolled_back + 1, 4):
            with pytest.raises((ChainBroken, PointNotFound)):
                opened.disk(number, KEY)


@pytest.mark.parametrize("deleted", [0, 1, 2])
def test_a_deleted_file_takes_its_point_and_the_later_ones(chain: SmallChain, deleted: int) -> None:
    chain.files.drop(chain.paths[deleted])
    report = verify_folder(chain.files, chain.folder, chain.store.passphrase, lambda _: None)
    assert {damage.point for damage in report.damages} - {0} == set(range(deleted + 1, 4))
    with pytest.raises(ChainBroken, match="missing"):
        begin_again(chain)


def test_a_file_renamed_to_no_chain_file_is_a_deleted_one(chain: SmallChain) -> None:
    chain.files.rename(chain.paths[2], chain.folder / "00000003-increment.hfc.bak")
    with pytest.raises(ChainBroken, match="missing"):
        begin_again(chain)
    chain.files.drop(chain.folder / "00000003-increment.hfc.bak")


def test_a_damaged_chain_is_not_continued_but_a_full_may_begin(made: SmallChain) -> None:
    chain = SmallChain(16, made.store.passphrase, points=2)
    for slot in range(2):
        chain.flip(chain.paths[0], slot * SUPERBLOCK_SIZE + 20, 1)
    with pytest.raises(FileDamaged):
        begin_again(chain)
    store = chain.store
    chain.store = type(store)(
        unit_size=store.unit_size, passphrase=store.passphrase, full=True, passphrase_cost=store.passphrase_cost
    )
    opened = begin_point(chain.repository, SessionId("session-9"), chain.snapshot(9), chain.store)
    assert (opened.kind, opened.chain.split("/")[-1][:6]) == ("full", "000002")
    assert opened.reason.startswith("a full was asked for")


# -- the metadata file --------------------------------------------------


def test_a_flipped_bit_in_the_metadata_is_found_and_hides_no_point(chain: SmallChain) -> None:
    path = chain.folder / METADATA_NAME
    with chain.open() as opened:
        keys = opened.files[0].keys
    data = chain.files.content(path)
    wanted = read_metadata(chain.files, chain.folder, keys)
    for offset in sorted({*range(150), *range(150, len(data), 7), len(data) - 1}):
        chain.flip(path, offset, offset % 8)
        with pytest.raises(FileDamaged, match=r"chain\.hfm"):
            read_metadata(chain.files, chain.folder, keys)
        chain.heal()
    chain.flip(path, 200, 0)
    assert chain.verify().is_good
    with pytest.raises(FileDamaged, match=r"chain\.hfm"):
        begin_again(chain)
    rebuilt = refresh_metadata(chain.files, chain.folder, chain.store.passphrase)
    assert wanted is not None
    assert (rebuilt.files, rebuilt.points) == (wanted.files, wanted.points)


@pytest.mark.parametrize("cut", [0, 7, 100, 143, 144, 200, -1])
def test_a_truncated_metadata_file_is_found(chain: SmallChain, cut: int) -> None:
    path = chain.folder / METADATA_NAME
    with chain.open() as opened:
        keys = opened.files[0].keys
    chain.files.set_content(path, chain.files.content(path)[:cut])
    with pytest.raises(FileDamaged):
        read_metadata(chain.files, chain.folder, keys)


def test_metadata_of_another_chain_is_refused(chain: SmallChain) -> None:
    other = SmallChain(12, chain.store.passphrase, points=1)
    chain.files.set_content(chain.folder / METADATA_NAME, other.files.content(other.folder / METADATA_NAME))
    with pytest.raises(ChainBroken, match="belongs to chain"):
        begin_again(chain)


def test_a_chain_without_metadata_is_read_and_continued() -> None:
    chain = SmallChain(17)
    chain.files.drop(chain.folder / METADATA_NAME)
    assert chain.verify().is_good
    begin_again(chain)
    chain.back_up_begun(9)


def test_a_point_that_was_finished_is_not_finished_again_over_a_damaged_chain() -> None:
    chain = SmallChain(18, points=2)
    summary = chain.summaries[1]
    opened = begin_point(chain.repository, SessionId("session-1"), chain.snapshot(1), chain.store)
    assert opened.number == summary.number
    again = finish_point(chain.repository, opened, None)
    assert again.root == summary.root
    chain.files.drop(chain.paths[0])
    with pytest.raises(ChainBroken):
        finish_point(chain.repository, opened, None)

"""Which damage takes what: for every kind of byte of a chain the verdict is known beforehand and must be exact."""

import random
from collections.abc import Callable, Iterator

import pytest

from holdfast.errors import ChainBroken, DataError, FileDamaged, FormatUnknown, HoldfastError, PointNotFound
from holdfast.formats.magic import PIECE_SIZE, PIECES_PER_PAGE, SUPERBLOCK_SIZE
from holdfast.model.ids import SessionId
from holdfast.model.points import VerifyReport
from holdfast.storage.chain import Chain
from holdfast.storage.chain_file import ChainFile
from holdfast.storage.health import verify_folder
from holdfast.storage.lifecycle import begin_point, finish_point
from holdfast.storage.metadata import METADATA_NAME, read_metadata, refresh_metadata
from tests.fuzz.damage import KEY, Region, SmallChain, unneeded
from tests.fuzz.explorer import tell

HARMLESS = {"slot", "contents", "notes", "unit gap", "left over"}
"""One superblock or contents page of two; what only a rebuild reads; padding; what earlier commits left."""


@pytest.fixture(scope="module", params=[None, "correct horse"], ids=["plain", "encrypted"])
def made(request: pytest.FixtureRequest) -> SmallChain:
    return SmallChain(11, request.param)


@pytest.fixture
def chain(made: SmallChain) -> Iterator[SmallChain]:
    yield made
    made.heal()
    assert made.verify().is_good


def verdict(report: VerifyReport) -> tuple[set[tuple[int, int]], set[int]]:
    """Return the damaged (point, piece) pairs, and the points of which a disk is damaged as a whole."""
    pieces = {
        (damage.point, piece)
        for damage in report.damages
        for piece in range(damage.offset // PIECE_SIZE, -(-(damage.offset + damage.length) // PIECE_SIZE))
    }
    return pieces, {damage.point for damage in report.damages if not damage.length}


def held(chain: SmallChain, file: int) -> set[tuple[int, int]]:
    """Return (point, piece) of everything that points read from a file."""
    with chain.open() as opened:
        return {
            (point.number, run.piece + at)
            for _, point in opened.points()
            for run in opened.disk(point.number, KEY).runs(0, -(-chain.disk.size_bytes // PIECE_SIZE))
            for at in range(run.count if run.file is not None else 0)
            if run.file is not None and run.file.path == chain.paths[file]
        }


def expected(chain: SmallChain, file: int, region: Region, ordinal: int) -> tuple[set[tuple[int, int]], set[int]]:
    """Return what a flipped bit in a region must take with it. ``ordinal`` counts the regions of one name."""
    if region.name in HARMLESS:
        return set(), set()
    if region.unit >= 0:
        spans = chain.spans_of_unit(chain.paths[file], region.unit)
        return {(p, at // PIECE_SIZE) for p, start, n in spans for at in range(start, start + n, PIECE_SIZE)}, set()
    if region.name.startswith("map"):
        return set(), {file + 1}
    needed = held(chain, file)
    if region.name == "pieces":
        return set(), {point for point, piece in needed if piece // PIECES_PER_PAGE == ordinal}
    if region.name == "pieces directory":
        return set(), {point for point, _ in needed}
    assert region.name in {"units", "digests"}
    return needed, {point for point, _ in needed} if region.name == "digests" else set()


def offsets(region: Region, rng: random.Random) -> list[int]:
    """Return the first and last byte of a region and some between; of superblocks one in each field."""
    if region.name == "slot":
        fields = [0, 8, 10, 12, 13, 14, 15, 16, 24, 32, 48, 64, 80, 88, 92, 96, 112, 128, 132, 136, 140, 152, 200]
        return [region.start + at for at in [*fields, 4059, 4060, 4064, 4095]]
    if region.name == "unit header":
        return list(range(region.start, region.start + region.length, 3))
    ends = {region.start, region.start + region.length - 1}
    return sorted(ends | {region.start + rng.randrange(region.length) for _ in range(2)})


def test_a_flipped_bit_takes_exactly_what_it_should(chain: SmallChain, seed: int) -> None:
    rng = random.Random(seed)
    flips = 0
    names = set()
    for file, path in enumerate(chain.paths):
        regions = chain.regions(path)
        seen: dict[str, int] = {}
        for region in regions + unneeded(regions, len(chain.files.content(path))):
            ordinal = seen[region.name] = seen.get(region.name, -1) + 1
            names.add(region.name)
            wanted = expected(chain, file, region, ordinal)
            for offset in offsets(region, rng):
                chain.flip(path, offset, rng.randrange(8))
                report = chain.verify()
                assert verdict(report) == wanted, f"{path.name}: {region.name} at {offset}: {report.damages}"
                assert all(damage.reason for damage in report.damages)
                chain.heal()
                flips += 1
    tell(f"{flips} bits flipped in {len(names)} kinds of bytes: {sorted(names)}")


def test_both_superblocks_damaged_name_the_file_and_leave_the_others(chain: SmallChain) -> None:
    for slot in range(2):
        chain.flip(chain.paths[1], slot * SUPERBLOCK_SIZE + 16, 0)
    with pytest.raises(FileDamaged, match=chain.paths[1].name):
        ChainFile.open(chain.files, chain.paths[1], chain.store.passphrase)
    with chain.open() as opened:
        assert [lost.path for lost in opened.unreadable] == [chain.paths[1]]
        opened.disk(1, KEY)
        with pytest.raises(PointNotFound):
            opened.disk(2, KEY)
        with pytest.raises(ChainBroken, match="continues point 2"):
            opened.disk(3, KEY)
    assert verdict(chain.verify()) == (set(), {2, 3})


def test_both_contents_pages_damaged_name_the_file_and_leave_the_others(chain: SmallChain) -> None:
    for region in chain.regions(chain.paths[0]):
        if region.name == "contents":
            chain.flip(chain.paths[0], region.start + region.length - 1, 3)
    with pytest.raises(FileDamaged, match=r"page in .*00000001-full\.hfc at offset"):
        ChainFile.open(chain.files, chain.paths[0], chain.store.passphrase)
    assert verdict(chain.verify()) == (set(), {1, 2, 3})


def test_a_magic_number_lost_in_both_superblocks_makes_it_no_chain_file(chain: SmallChain) -> None:
    for slot in range(2):
        chain.flip(chain.paths[2], slot * SUPERBLOCK_SIZE, 0)
    with pytest.raises(FormatUnknown, match=r"00000003-increment\.hfc is not a chain file"):
        ChainFile.open(chain.files, chain.paths[2], chain.store.passphrase)
    assert verdict(chain.verify()) == (set(), {3})


def test_a_truncated_file_is_found_and_hides_no_other(chain: SmallChain, seed: int) -> None:
    rng = random.Random(seed)
    for file, path in enumerate(chain.paths):
        data = chain.files.content(path)
        end = min(region.start for region in chain.regions(path) if region.name == "contents")
        cuts = [0, 1, 511, 4096, 4097, 8192, 12288, end, end + 1, *(rng.randrange(end) for _ in range(6))]
        for cut in cuts:
            chain.files.set_content(path, data[:cut])
            told = {damage.point for damage in chain.verify().damages}
            # A file that was cut to nothing says nothing of itself; the metadata does.
            report = verify_folder(chain.files, chain.folder, chain.store.passphrase, lambda _: None)
            told |= {damage.point for damage in report.damages} - {0}
            assert file + 1 in told, f"{path.name} cut at {cut}: {told}"
            assert min(told) == file + 1, f"{path.name} cut at {cut}: {told}"
            with pytest.raises((DataError, PointNotFound)):
                begin_again(chain)
            assert chain.files.content(path) == data[:cut]
            chain.heal()
        chain.files.set_content(path, data[:-4096])
        assert chain.verify().is_good, "the other superblock names another contents page"
        chain.heal()


def test_files_that_exchanged_their_names_are_the_same_chain(chain: SmallChain) -> None:
    one, two = (chain.files.content(path) for path in chain.paths[:2])
    chain.files.set_content(chain.paths[0], two)
    chain.files.set_content(chain.paths[1], one)
    assert chain.verify().is_good


def test_a_file_under_another_number_is_the_same_file(chain: SmallChain) -> None:
    chain.files.rename(chain.paths[1], chain.folder / "00000042-increment.hfc")
    assert chain.verify().is_good


def test_a_file_of_another_chain_is_refused(chain: SmallChain) -> None:
    other = SmallChain(12, chain.store.passphrase, points=1)
    chain.files.set_content(chain.paths[0], other.files.content(other.paths[0]))
    with pytest.raises(DataError) as caught:
        chain.verify()
    # The passphrase opens both chains, or there is none; what differs is the chain.
    assert type(caught.value) is ChainBroken
    assert "belongs to chain" in caught.value.message


@pytest.mark.parametrize("foreign", ["same file", "other file", "other chain"])
def test_a_record_in_the_place_of_another_is_not_taken_for_it(chain: SmallChain, foreign: str) -> None:
    source = SmallChain(12, chain.store.passphrase, points=1) if foreign == "other chain" else chain
    path = chain.paths[1] if foreign == "other file" else source.paths[0]
    target = next(r for r in chain.regions(chain.paths[0]) if r.name == "unit header" and r.unit == 0)
    record = next(r for r in source.regions(path) if r.name == "unit header" and r.unit == (foreign == "same file"))
    data = bytearray(chain.files.content(chain.paths[0]))
    data[target.start : target.start + 150_000] = source.files.content(path)[record.start : record.start + 150_000]
    wanted = expected(chain, 0, target, 0)
    chain.files.set_content(chain.paths[0], bytes(data))
    assert verdict(chain.verify()) == wanted


def test_two_whole_units_that_exchanged_their_places_are_found(chain: SmallChain) -> None:
    # Same size, both intact: only the digests by place tell them apart.
    other = SmallChain(13, chain.store.passphrase)
    path = other.paths[0]
    units = [r for r in other.regions(path) if r.name == "unit header"]
    with other.open() as opened:
        file = next(file for file in opened.files if file.path == path)
        entries = [file.unit(number) for number in range(2)]
    assert all(entries)
    first, second = (entry for entry in entries if entry is not None)
    data = bytearray(other.files.content(path))
    data[first.offset : first.offset + second.length] = data[second.offset : second.offset + second.length]
    other.files.set_content(path, bytes(data))
    assert verdict(other.verify()) == expected_of_heal(other, units[0])


def expected_of_heal(chain: SmallChain, region: Region) -> tuple[set[tuple[int, int]], set[int]]:
    chain.heal()
    return expected(chain, 0, region, 0)


def test_an_old_superblock_written_over_the_newer_one_changes_nothing(chain: SmallChain) -> None:
    path = chain.paths[2]
    older = chain.old[2][path]
    with ChainFile.open(chain.files, path, chain.store.passphrase) as file:
        newest = file.superblock
    data = bytearray(older)
    other = (newest.slot_offset + SUPERBLOCK_SIZE) % (2 * SUPERBLOCK_SIZE)
    data[newest.slot_offset : newest.slot_offset + SUPERBLOCK_SIZE] = bytes(SUPERBLOCK_SIZE)
    chain.files.set_content(path, bytes(data))
    assert chain.verify().is_good
    # The same superblock in the slot it does not belong to counts for nothing.
    data[newest.slot_offset : newest.slot_offset + SUPERBLOCK_SIZE] = data[other : other + SUPERBLOCK_SIZE]
    chain.files.set_content(path, bytes(data))
    assert chain.verify().is_good


def test_a_superblock_of_a_sibling_does_not_make_its_file(chain: SmallChain) -> None:
    path, sibling = chain.paths[0], chain.paths[1]
    data = bytearray(chain.files.content(path))
    for slot in range(2):
        changed = bytearray(data)
        start = slot * SUPERBLOCK_SIZE
        changed[start : start + SUPERBLOCK_SIZE] = chain.files.content(sibling)[start : start + SUPERBLOCK_SIZE]
        chain.files.set_content(path, bytes(changed))
        assert chain.verify().is_good


# -- files that are older than they were, gone, or not the chain's -----------------------------------------


def begin_again(chain: SmallChain) -> None:
    begin_point(chain.repository, SessionId("session-9"), chain.snapshot(9), chain.store)


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


# -- bytes that come from the wrong place --------------------------------------------------


@pytest.mark.parametrize("kind", ["unit body", "map", "pieces", "digests", "units"])
def test_a_sector_read_from_elsewhere_is_found(chain: SmallChain, kind: str, seed: int) -> None:
    path = chain.paths[0]
    regions = [region for region in chain.regions(path) if region.name == kind]
    data = chain.files.content(path)
    region = random.Random(seed).choice(regions)
    sector = region.start // 512 + (1 if region.length > 1024 else 0)
    for instead in (data[4096 + 512 : 4096 + 1024], data[sector * 512 + 512 : sector * 512 + 1024], bytes(512)):
        chain.files.overlay = {(path, sector): instead}
        report = chain.verify()
        assert verdict(report) == expected_behind(chain, region, regions.index(region)), report.damages
        chain.files.overlay = {}
    assert chain.verify().is_good


def expected_behind(chain: SmallChain, region: Region, ordinal: int) -> tuple[set[tuple[int, int]], set[int]]:
    overlay, chain.files.overlay = chain.files.overlay, {}
    try:
        return expected(chain, 0, region, ordinal)
    finally:
        chain.files.overlay = overlay


# -- anything at all --------------------------------------------------


def mutations(data: bytes, rng: random.Random) -> Callable[[], bytes]:
    """Return a function that gives the data with something done to it."""

    def flipped() -> bytes:
        changed = bytearray(data)
        for _ in range(rng.randrange(1, 20)):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        return bytes(changed)

    def cut() -> bytes:
        return data[: rng.randrange(len(data))]

    def grown() -> bytes:
        return data + rng.randbytes(rng.randrange(1, 9000))

    def blanked() -> bytes:
        start = rng.randrange(-(-len(data) // 4096)) * 4096
        return data[:start] + bytes([rng.choice([0, 255])]) * 4096 + data[start + 4096 :]

    def moved() -> bytes:
        one, two = (rng.randrange(-(-len(data) // 512)) * 512 for _ in range(2))
        changed = bytearray(data)
        changed[one : one + 4096], changed[two : two + 4096] = data[two : two + 4096], data[one : one + 4096]
        return bytes(changed)

    def swallowed() -> bytes:
        start = rng.randrange(len(data))
        return data[:start] + data[start + rng.randrange(1, 5000) :]

    kinds = [flipped, cut, grown, blanked, moved, swallowed]
    return rng.choice(kinds)


def fuzz(chain: SmallChain, rng: random.Random, rounds: int) -> tuple[int, int]:
    """Mutate files; whatever is done, nothing but our errors comes out, and what verifies as good restores exactly."""
    errors = unharmed = 0
    for _ in range(rounds):
        path = rng.choice([*chain.paths, chain.folder / METADATA_NAME])
        chain.files.set_content(path, mutations(chain.old[-1][path], rng)())
        try:
            report = chain.verify()
            damaged = {damage.point for damage in report.damages}
            with chain.open() as opened:
                check_points(chain, opened, damaged)
                read_metadata(chain.files, chain.folder, opened.files[0].keys)
            unharmed += report.is_good
        except HoldfastError:
            errors += 1
        assert not chain.files.open_handles
        chain.heal()
    return errors, unharmed


def check_points(chain: SmallChain, opened: Chain, damaged: set[int]) -> None:
    for number, disk in enumerate(chain.disks, 1):
        if number not in damaged:
            stored = opened.disk(number, KEY)
            for run in stored.runs(0, stored.pieces):
                if run.file is not None:
                    for at in range(run.count):
                        unit, slot = divmod(run.place + at, run.file.pieces_per_unit)
                        body = bytes(run.file.read_unit(unit)[1])[slot * PIECE_SIZE : (slot + 1) * PIECE_SIZE]
                        assert body == disk.pieces[run.piece + at]


def test_no_mutation_of_a_file_brings_out_anything_but_our_errors(chain: SmallChain, seed: int) -> None:
    errors, unharmed = fuzz(chain, random.Random(seed), 150)
    tell(f"150 mutations: {errors} refused, {unharmed} harmless")


@pytest.mark.soak
def test_thousands_of_mutations_bring_out_nothing_but_our_errors(chain: SmallChain, seed: int) -> None:
    errors, unharmed = fuzz(chain, random.Random(seed), 5000)
    tell(f"5000 mutations: {errors} refused, {unharmed} harmless")


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

"""Which damage takes what: for every kind of byte of a chain the verdict is known beforehand and must be exact."""

import random

import msgspec
import pytest

from holdfast.errors import ChainBroken, DataError, FileDamaged, FormatUnknown, PointNotFound
from holdfast.formats.magic import SUPERBLOCK_SIZE
from holdfast.formats.superblock import pack_superblock, unpack_superblock
from holdfast.storage.chain_files.chain_file import ChainFile
from holdfast.storage.health.folder import verify_folder
from tests.fuzz.damage import KEY, Region, SmallChain, unneeded
from tests.fuzz.explorer import tell
from tests.fuzz.verdicts import begin_again, expected, expected_behind, verdict


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


@pytest.mark.parametrize("theirs, found", [(None, "is not encrypted"), ("words", "is encrypted")])
def test_a_plain_file_in_an_encrypted_chain_is_called_so_and_so_is_the_other_way_round(
    theirs: str | None, found: str
) -> None:
    chain = SmallChain(12, "words" if theirs is None else None, points=2)
    there = unpack_superblock(chain.files.content(chain.paths[0])[:SUPERBLOCK_SIZE])
    other = SmallChain(12, theirs, points=1)
    with ChainFile.open(other.files, other.paths[0], theirs) as file:
        block = msgspec.structs.replace(file.superblock, chain_id=there.chain_id)
        chain.files.set_content(chain.paths[1], 2 * pack_superblock(block, file.keys))
    with pytest.raises(ChainBroken, match=found):
        chain.verify()


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

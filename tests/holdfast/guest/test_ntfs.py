"""The free clusters of NTFS are the ones of ``$Bitmap``, and its page files are found."""

import random
import re
from pathlib import Path

import pytest

from holdfast.guest.ntfs import Ntfs
from holdfast.guest.volume import VolumeState
from holdfast.guest.window import Implausible
from holdfast.model.spans import total_length
from holdfast.testing.images import MIB, FileSystem, check_image, make_image, read_file, write_files
from tests.holdfast.guest.drives import blocks, garble, look, patch, run, sparse, window

pytestmark = pytest.mark.tools("mkntfs", "ntfscp", "ntfscat", "ntfsfix", "ntfsinfo")

SIZE = 48 * MIB
TREE = {f"f{number}.txt": b"%d " % number * 5000 for number in range(12)}
PAGES = b"page" * MIB
CLUSTER = 4096


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "ntfs.raw"
    make_image(path, FileSystem.NTFS, SIZE, TREE)
    return path


def tool_view(path: Path) -> set[int]:
    """Return the free clusters as the bitmap says that ntfscat reads."""
    found = re.search(r"Volume Size in Clusters: (\d+)", run("ntfsinfo", "-m", "-f", path))
    assert found is not None
    raw = int.from_bytes(bitmap_of(path), "little")
    return {number for number in range(int(found[1])) if not raw >> number & 1}


def bitmap_of(path: Path) -> bytes:
    return read_file(path, FileSystem.NTFS, "$Bitmap")


def place_of(path: Path, content: bytes) -> int:
    """Return where a content stands in an image, in bytes."""
    at = path.read_bytes().find(content)
    assert at > 0
    return at


def test_free_clusters_are_those_that_the_programs_see(image: Path) -> None:
    use = look(image)
    assert [(volume.kind, volume.state, volume.reason) for volume in use.volumes] == [("ntfs", VolumeState.CLEAN, "")]
    assert blocks(use.deleted_spans(), CLUSTER) == tool_view(image)


@pytest.mark.parametrize("cluster", [512, 2048, 65536])
def test_other_cluster_sizes_are_known(tmp_path: Path, cluster: int) -> None:
    path = sparse(tmp_path / "ntfs.raw", SIZE)
    run("mkntfs", "-q", "-F", "-f", "-s", "512", "-p", "0", "-H", "255", "-S", "63", "-c", str(cluster), path)
    write_files(path, FileSystem.NTFS, TREE)
    assert blocks(look(path).deleted_spans(), cluster) == tool_view(path)


def test_nothing_that_is_needed_is_called_free(image: Path) -> None:
    write_files(image, FileSystem.NTFS, {"pagefile.sys": PAGES})
    use = look(image, least=65536)
    garble(image, use.deleted_spans())
    garble(image, use.swap_spans())
    checked = check_image(image, FileSystem.NTFS)
    assert checked.is_clean, checked.report
    assert {name: read_file(image, FileSystem.NTFS, name) for name in TREE} == TREE
    assert read_file(image, FileSystem.NTFS, "pagefile.sys") == b"\xa5" * len(PAGES)


def test_page_files_are_swap_whatever_their_letters(image: Path) -> None:
    write_files(image, FileSystem.NTFS, {"PageFile.SYS": PAGES, "swapfile.sys": PAGES[:MIB], "my-pagefile.sys": PAGES})
    assert total_length(look(image).swap_spans()) == len(PAGES) + MIB


def test_page_files_are_left_out_of_a_running_machine_too(image: Path) -> None:
    write_files(image, FileSystem.NTFS, {"pagefile.sys": PAGES})
    use = look(image, at_rest=False)
    assert use.volumes[0].state is VolumeState.UNCLEAN
    assert total_length(use.swap_spans()) == use.volumes[0].swap_bytes == len(PAGES)
    assert list(use.deleted_spans()) == []


def test_a_page_file_in_many_pieces_is_found_whole(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "ntfs.raw"
    small = {f"s{number}": bytes([number % 256]) * 8192 for number in range(600)}
    make_image(path, FileSystem.NTFS, 12 * MIB, small)
    write_files(path, FileSystem.NTFS, dict.fromkeys(list(small)[::2], b""))
    content = random.Random(seed).randbytes((len(tool_view(path)) - 700) * CLUSTER)
    write_files(path, FileSystem.NTFS, {"pagefile.sys": content})
    spans = list(look(path).swap_spans())
    assert len(spans) > 1
    assert total_length(spans) == len(content)
    held = {window(path).read(span.start + at, CLUSTER) for span in spans for at in range(0, span.length, CLUSTER)}
    assert held == {content[at : at + CLUSTER] for at in range(0, len(content), CLUSTER)}
    assert blocks(look(path).deleted_spans(), CLUSTER) == tool_view(path)


def test_the_start_of_a_hibernation_file_is_kept(image: Path) -> None:
    write_files(image, FileSystem.NTFS, {"hiberfil.sys": bytes(16) + PAGES})
    (span,) = look(image).swap_spans()
    assert span.length == -(-(len(PAGES) + 16) // CLUSTER) * CLUSTER - 65536


@pytest.mark.parametrize("mark", [b"hibr", b"HIBR", b"RSTR"])
def test_a_sleeping_machine_keeps_everything(image: Path, mark: bytes) -> None:
    write_files(image, FileSystem.NTFS, {"pagefile.sys": PAGES})
    write_files(image, FileSystem.NTFS, {"hiberfil.sys": mark + PAGES})
    use = look(image)
    assert use.volumes[0].reason == "the machine sleeps"
    assert (list(use.swap_spans()), list(use.deleted_spans())) == ([], [])


def test_a_dirty_volume_keeps_its_free_clusters(image: Path) -> None:
    run("ntfsfix", image)  # marks it, so that it is checked at the next start
    use = look(image)
    assert (use.volumes[0].state, use.volumes[0].reason) == (VolumeState.UNCLEAN, "it is marked as dirty")
    assert list(use.deleted_spans()) == []


def test_shadow_copies_keep_free_clusters(image: Path) -> None:
    header = bytes.fromhex("6b87083876c1484eb7ae04046e6cc752") + bytes(32) + (1 << 20).to_bytes(8, "little")
    patch(image, 0x1E00, header[:48] + bytes(8))
    assert look(image).volumes[0].state is VolumeState.CLEAN
    patch(image, 0x1E00, header)
    assert "shadow copies" in look(image).volumes[0].reason


def restart_page(lsn: int, *, closed: bool) -> bytes:
    head = b"RSTR" + bytes.fromhex("1e000900") + bytes(8) + (4096).to_bytes(4, "little") * 2 + b"\x30\0" + b"\1\0\1\0"
    area = lsn.to_bytes(8, "little") + b"\1\0\xff\xff" + (b"\xff\xff\2\0" if closed else b"\0\0\0\0")
    return (head.ljust(0x30, b"\0") + area).ljust(4096, b"\0")


@pytest.mark.parametrize(
    "pages,is_clean",
    [
        ((restart_page(5, closed=True), restart_page(4, closed=False)), True),
        ((restart_page(5, closed=True), restart_page(6, closed=False)), False),
        ((restart_page(5, closed=True), restart_page(5, closed=False)), False),
        ((restart_page(5, closed=False), restart_page(4, closed=True)), False),
        ((b"CHKD" + restart_page(5, closed=True)[4:], restart_page(4, closed=True)), False),
        ((bytes(4096), bytes(4096)), False),
    ],
)
def test_the_log_tells_whether_the_volume_was_closed(image: Path, pages: tuple[bytes, bytes], is_clean: bool) -> None:
    log = place_of(image, b"\xff" * MIB)
    patch(image, log, b"".join(pages))
    use = look(image)
    assert use.volumes[0].state is (VolumeState.CLEAN if is_clean else VolumeState.UNCLEAN)
    if not is_clean:
        assert "log has to be replayed" in use.volumes[0].reason


def test_a_bitmap_that_frees_what_a_file_has_is_not_believed(image: Path) -> None:
    write_files(image, FileSystem.NTFS, {"pagefile.sys": PAGES})
    (pages,) = look(image).swap_spans()
    bitmap = place_of(image, bitmap_of(image))
    at = bitmap + pages.start // CLUSTER // 8 + 2
    patch(image, at, b"\xef")
    use = look(image)
    assert "calls clusters free that a file has" in use.volumes[0].reason
    assert (list(use.swap_spans()), list(use.deleted_spans())) == ([], [])


@pytest.mark.parametrize("at,value", [(11, 100), (13, 3), (40, 0xFF), (48, 0xFF), (64, 0), (68, 0x7F), (510, 0)])
def test_measures_that_cannot_be_are_refused(image: Path, at: int, value: int) -> None:
    patch(image, at, bytes((value,)) * (8 if at in (40, 48) else 1))
    with pytest.raises(Implausible):
        Ntfs(window(image))


def test_a_record_that_was_written_in_part_is_noticed(image: Path) -> None:
    boot = window(image).read(0, 512)
    mft = int.from_bytes(boot[48:56], "little") * CLUSTER
    patch(image, mft + 6 * 1024 + 510, b"\x77\x77")
    assert look(image).volumes[0].reason == "a record was written in part only"


def test_spans_are_whole_clusters(image: Path) -> None:
    spans = list(look(image, least=65536).deleted_spans())
    assert spans
    assert all(span.start % CLUSTER == span.length % CLUSTER == 0 for span in spans)

"""A disk at a point is read at any offset; every piece is compared with its digest."""

import random
from pathlib import Path

import pytest

from holdfast.clock import SystemClock
from holdfast.errors import DataDamaged
from holdfast.formats.magic import PIECE_SIZE
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.atomic import HostFiles
from holdfast.storage.points import point_reader
from holdfast.storage.points.point_reader import PointReader
from tests.holdfast.storage.driving import KEY, back_up, make_content


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository.create(tmp_path / "r", HostFiles(), "ab" * 16, SystemClock().now())


def test_any_run_of_bytes_reads_as_it_was(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(point_reader, "_KEPT_BYTES", 512 << 10)
    seed = 5
    rng = random.Random(seed)
    content = make_content(rng, 40)
    back_up(repository, bytes(content), 1, None)
    content[7 * PIECE_SIZE : 9 * PIECE_SIZE] = rng.randbytes(2 * PIECE_SIZE)
    content = content[:-512]
    point = back_up(repository, bytes(content), 2, None)
    with repository.open_chain(point.chain, None) as chain:
        reader = PointReader(chain.disk(2, KEY))
        assert reader.size_bytes == len(content)
        for _ in range(200):
            start = rng.randrange(len(content))
            length = rng.randrange(min(5 * PIECE_SIZE, len(content) - start))
            assert reader.read(start, length) == content[start : start + length], seed
        assert reader.read(len(content) - 10, 1024) == content[-10:] + bytes(1014)
        assert reader.read(10 * len(content), 10) == bytes(10)
        assert reader._held <= 512 << 10


def test_damage_is_never_given_out(repository: Repository) -> None:
    content = random.Random(1).randbytes(4 * PIECE_SIZE)
    point = back_up(repository, content, 1, None)
    path = repository.chain_folder(point.chain) / point.file
    data = bytearray(path.read_bytes())
    data[data.index(content[100:200])] ^= 1
    path.write_bytes(data)
    with repository.open_chain(point.chain, None) as chain, pytest.raises(DataDamaged):
        PointReader(chain.disk(1, KEY)).read(0, 1)

"""A verbatim copy goes on behind its last commit, and is the same bytes."""

import random
from pathlib import Path

import pytest

from holdfast.formats.magic import PIECE_SIZE
from holdfast.storage.chains.chain import Chain
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.atomic import HostFiles
from holdfast.storage.tools.verbatim import JOURNAL_NAME, VerbatimCopy
from tests.holdfast.storage.driving import CLOCK, back_up

FILES = HostFiles()
COMMIT = 64 << 10


class Stopped(Exception):
    """Raised at a commit."""


def test_every_commit_is_a_place_to_go_on_from(tmp_path: Path) -> None:
    repository = Repository.create(tmp_path / "r", FILES, "ab" * 16, CLOCK.now())
    point = back_up(repository, random.Random(1).randbytes(4 * PIECE_SIZE), 1, None)
    folder = tmp_path / "copy"
    FILES.make_folder(folder)
    seen: list[int] = []

    def stop(done: int) -> None:
        if seen[-1:] != [done]:
            seen.append(done)
            if done:
                raise Stopped

    with Chain.open(FILES, repository.chain_folder(point.chain), None) as chain:
        size = chain.files[0].handle.size()
        while seen[-1:] != [size]:
            with pytest.raises(Stopped):
                VerbatimCopy(FILES, folder, COMMIT).run(chain.files, stop)
        assert VerbatimCopy(FILES, folder, COMMIT).run(chain.files, lambda _: None) == 0
    assert seen == [*range(0, size, COMMIT), size]
    original = repository.chain_folder(point.chain) / point.file
    assert (folder / point.file).read_bytes() == original.read_bytes()
    assert sorted(path.name for path in folder.iterdir()) == sorted([point.file, JOURNAL_NAME])

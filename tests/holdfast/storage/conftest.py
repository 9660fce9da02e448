"""A repository in memory with a machine to back up."""

from pathlib import Path

import pytest

from holdfast.clock import SystemClock
from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.compression import Compression
from holdfast.model.spans import Span
from holdfast.pipeline.stages import PipeOptions
from holdfast.storage.chains.repository import Repository
from holdfast.storage.intake.lifecycle import StoreOptions
from holdfast.testing.chains import CHEAP, ProtectedMachine
from holdfast.testing.crashfs import CrashFiles

ROOT = Path("/repository")
PIPE = PipeOptions(compression=Compression.NONE, commit_interval_s=1e9)


def make_machine(
    sizes: dict[str, int], files: CrashFiles | None = None, passphrase: str | None = None, seed: int = 1
) -> ProtectedMachine:
    """Return a machine with disks of these numbers of pieces, all written, and a repository of its own."""
    files = files if files is not None else CrashFiles([Path("/")])
    repository = Repository.create(ROOT, files, "id", SystemClock().now())
    store = StoreOptions(unit_size=256 << 10, passphrase=passphrase, passphrase_cost=CHEAP)
    bytes_of = {key: pieces * PIECE_SIZE for key, pieces in sizes.items()}
    machine = ProtectedMachine(repository, seed, bytes_of, store, PIPE)
    for disk in machine.disks.values():
        disk.write(Span(0, disk.size_bytes))
    return machine


@pytest.fixture
def files() -> CrashFiles:
    return CrashFiles([Path("/")])


@pytest.fixture
def machine(files: CrashFiles) -> ProtectedMachine:
    """A machine with one disk of six pieces."""
    return make_machine({"disk0": 6}, files)

"""A process that dies at any fault point of a merge, compaction, synthetic full or reverse step loses nothing."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from holdfast.clock import SystemClock
from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.spans import Span
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.atomic import HostFiles
from holdfast.storage.health.verifier import verify_chain
from holdfast.storage.intake.lifecycle import StoreOptions
from holdfast.testing.chains import KeptPoint, ProtectedMachine, point_differences
from tests.fuzz.explorer import PIPE, tell
from tests.fuzz.upkeep_driver import CHANGES, UNIT, Answer, Request

TREE = Path(__file__).parents[2]


class Driver:
    """The process that forks the children."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.fuzz.upkeep_driver"]
        environment = {"PATH": "/usr/bin:/bin"}
        self.process = subprocess.Popen(
            command, cwd=TREE, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def run(self, request: Request) -> Answer:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(msgspec.json.encode(request) + b"\n")
        self.process.stdin.flush()
        return msgspec.json.decode(self.process.stdout.readline(), type=Answer)

    def stop(self) -> None:
        self.process.communicate(timeout=30)
        assert self.process.returncode == 0


@pytest.fixture(scope="module")
def driver() -> Iterator[Driver]:
    made = Driver()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> ProtectedMachine:
    """A machine of three points."""
    repository = Repository.create(tmp_path_factory.mktemp("base"), HostFiles(), "id", SystemClock().now())
    made = ProtectedMachine(repository, 3, {"a": 24 * PIECE_SIZE}, StoreOptions(unit_size=UNIT), PIPE)
    for turn in range(3):
        made.disks["a"].write(Span(turn * PIECE_SIZE, 16 * PIECE_SIZE))
        made.back_up()
    return made


def check(machine: ProtectedMachine, root: Path, stay: set[int]) -> None:
    """What is listed reads its bytes, and nothing stored is damaged."""
    repository = Repository.open(root, HostFiles())
    listed = list(repository.points())
    assert stay <= {found.point.number for found in listed}
    for found in listed:
        kept = machine.kept[found.point.number - 1]
        here = KeptPoint(msgspec.structs.replace(kept.summary, chain=found.chain), kept.disks)
        assert list(point_differences(repository, here, None)) == []
    for chain_name in {found.chain for found in listed}:
        with repository.open_chain(chain_name, None) as chain:
            assert verify_chain(chain, lambda _: None).is_good


@pytest.mark.parametrize("change", CHANGES)
def test_a_killed_change_is_gone_on_with_by_the_next_process(
    driver: Driver, machine: ProtectedMachine, tmp_path: Path, change: str
) -> None:
    def fresh(name: str) -> Request:
        root = shutil.copytree(machine.repository.root, tmp_path / name)
        return Request(root=str(root), chain=machine.kept[0].summary.chain, change=change)

    clean = fresh("clean")
    answer = driver.run(clean)
    assert (answer.signal, answer.status) == (0, 0)
    stay = {3} if change == "merge" else {1, 2, 3}
    check(machine, Path(clean.root), stay)
    kills = 0
    for name, hits in sorted(answer.hits.items()):
        for hit in sorted({1, hits // 2 + 1, hits}):
            request = fresh(f"{name}-{hit}")
            dead = driver.run(msgspec.structs.replace(request, kill_name=name, kill_hit=hit))
            assert dead.signal == signal.SIGKILL
            check(machine, Path(request.root), stay)
            ended = driver.run(request)
            assert (ended.signal, ended.status) == (0, 0)
            check(machine, Path(request.root), stay)
            shutil.rmtree(request.root)
            kills += 1
    tell(f"{kills} kills at {len(answer.hits)} fault points")
    assert len(answer.hits) >= 10

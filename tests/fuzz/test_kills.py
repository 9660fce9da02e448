"""A process that dies at any fault point, or at any moment, loses nothing that was finished and little of the rest."""

import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from holdfast.model.spans import Span
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.atomic import HostFiles
from holdfast.storage.health.verifier import verify_chain
from holdfast.testing.chains import restored
from tests.fuzz.driver import PROGRESS, Answer, Request, content_of
from tests.fuzz.explorer import tell

RESENT_BYTES_MAX = 64 << 20
TREE = Path(__file__).parents[2]


class Driver:
    """The process that forks the children."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.driver"],
            cwd=TREE,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def run(self, request: Request) -> Answer:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(msgspec.json.encode(request) + b"\n")
        self._process.stdin.flush()
        return msgspec.json.decode(self._process.stdout.readline(), type=Answer)

    def stop(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        assert self._process.wait(30) == 0
        self._process.stdout.close()


@pytest.fixture(scope="module")
def driver() -> Iterator[Driver]:
    made = Driver({"PATH": "/usr/bin:/bin"})
    yield made
    made.stop()


def new_request(folder: Path, seed: int, size_bytes: int = 1 << 20, sessions: int = 2) -> Request:
    folder.mkdir()
    progress = folder / "progress"
    progress.write_bytes(bytes(PROGRESS.size))
    return Request(
        root=str(folder / "repository"),
        progress=str(progress),
        seed=seed,
        size_bytes=size_bytes,
        sessions=sessions,
        commit_new_bytes=256 << 10,
    )


def progress_of(request: Request) -> tuple[int, int]:
    packed, finished = PROGRESS.unpack(Path(request.progress).read_bytes())
    return packed, finished


def check_finished(request: Request) -> None:
    """Every session the story knows to be finished reads exactly as its disk was, and nothing stored is damaged."""
    _, finished = progress_of(request)
    if not Path(request.root, "repository.json").exists():
        assert finished == 0
        return
    repository = Repository.open(Path(request.root), HostFiles())
    complete = {f.point.session: f for f in repository.points(request.passphrase) if f.point.complete}
    for session in range(finished):
        found = complete[f"session-{session}"]
        disk = content_of(request, session)
        actual = restored(repository, found.chain, found.point.number, "disk0", request.passphrase)
        assert disk.difference(0, actual) is None
    for chain_name in {found.chain for found in complete.values()}:
        with repository.open_chain(chain_name, request.passphrase) as chain:
            assert verify_chain(chain, lambda _: None).is_good


def carry_to_the_end(driver: Driver, request: Request) -> None:
    ended = driver.run(msgspec.structs.replace(request, kill_name="", kill_after_s=0.0))
    assert (ended.signal, ended.status) == (0, 0)
    assert progress_of(request)[1] == request.sessions
    check_finished(request)


def hits_to_try(hits: int) -> set[int]:
    return {1, hits // 2 + 1, hits}


def test_a_process_killed_at_any_fault_point_is_followed_by_one_that_goes_on(
    driver: Driver, tmp_path: Path, seed: int
) -> None:
    clean = new_request(tmp_path / "clean", seed)
    answer = driver.run(clean)
    assert (answer.signal, answer.status) == (0, 0)
    check_finished(clean)
    needed, _ = progress_of(clean)
    kills = 0
    for name, hits in sorted(answer.hits.items()):
        for hit in sorted(hits_to_try(hits)):
            request = new_request(tmp_path / f"{name}-{hit}", seed)
            dead = driver.run(msgspec.structs.replace(request, kill_name=name, kill_hit=hit))
            # A commit by the clock may come or not, so that the last hits of a clean run need not come again.
            assert dead.signal == signal.SIGKILL or dead.hits.get(name, 0) < hit
            check_finished(request)
            carry_to_the_end(driver, request)
            assert progress_of(request)[0] - needed <= RESENT_BYTES_MAX
            kills += 1
    tell(f"{kills} kills at {len(answer.hits)} fault points")
    assert len(answer.hits) >= 10


def test_a_killed_process_sends_at_most_64_mib_again(driver: Driver, tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    request = msgspec.structs.replace(new_request(tmp_path / "large", seed, 128 << 20, 1), commit_new_bytes=24 << 20)
    kills = 0
    for unit in (rng.randrange(100, 250), rng.randrange(100, 250)):
        dead = driver.run(msgspec.structs.replace(request, kill_name="pipe.unit_written", kill_hit=unit))
        kills += dead.signal == signal.SIGKILL
    carry_to_the_end(driver, request)
    packed, _ = progress_of(request)
    resent = packed - sum(span.length for span in content_of(request, 0).nonzero_spans())
    tell(f"{resent >> 10} KiB sent again after {kills} kills")
    assert kills == 2
    assert 0 < resent <= kills * RESENT_BYTES_MAX


def test_a_process_killed_again_and_again_still_comes_to_the_end(driver: Driver, tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    request = new_request(tmp_path / "often", seed, sessions=3)
    for _ in range(8):
        driver.run(msgspec.structs.replace(request, kill_name="file.sync", kill_hit=rng.randrange(1, 12)))
        check_finished(request)
    carry_to_the_end(driver, request)


KILLS = 160
"""Of each of two tests: more than 300 in all."""


@pytest.mark.soak
@pytest.mark.parametrize("passphrase", [None, "correct horse"])
def test_hundreds_of_kills_at_random_places_and_moments_lose_nothing(
    driver: Driver, tmp_path: Path, seed: int, passphrase: str | None
) -> None:
    rng = random.Random(seed)
    kills = 0
    hits = sorted(driver.run(new_request(tmp_path / "clean", seed)).hits.items())
    for story in range(400):
        made = new_request(tmp_path / f"story-{story}", seed + story, rng.randrange(4, 64) << 17, 3)
        request = msgspec.structs.replace(made, passphrase=passphrase)
        for _ in range(9):
            if rng.random() < 0.5:
                name, count = rng.choice(hits)
                fault = {"kill_name": name, "kill_hit": rng.randrange(1, min(count, 20) + 1)}
            else:
                fault = {"kill_after_s": rng.uniform(0.001, 0.3)}
            dead = driver.run(msgspec.structs.replace(request, **fault))
            assert dead.status == 0
            kills += bool(dead.signal)
            check_finished(request)
        carry_to_the_end(driver, request)
        shutil.rmtree(tmp_path / f"story-{story}")
        if kills >= KILLS:
            break
    tell(f"{kills} kills in {story + 1} stories")
    assert kills >= KILLS


def test_the_story_of_the_driver_is_the_same_in_every_process(tmp_path: Path) -> None:
    request = new_request(tmp_path / "same", 5)
    one, two = content_of(request, 1), content_of(request, 1)
    assert one.read(Span(0, one.size_bytes)) == two.read(Span(0, two.size_bytes))

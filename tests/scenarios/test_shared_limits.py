"""Two repositories with workers of their own under one throttling rule: real processes, and how their files grow."""

import json
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from holdfast.clock import SystemClock
from holdfast.model.ids import DiskKey
from holdfast.providers.local.hypervisor import LocalProvider
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.atomic import HostFiles
from tests.scenarios.places import opened_place
from workers.demo.crew import Command, Crew, chain_files
from workers.demo.place import JOB, DemoPlace
from workers.loopback import free_ports

pytestmark = [pytest.mark.slow, pytest.mark.temporal, pytest.mark.timeout(400)]

MIB = 1 << 20
SMALL, LARGE = "web01", "db01"
SIZES = {SMALL: 24 * MIB, LARGE: 144 * MIB}
OTHER_JOB = "other"
LIMIT, HIGHER = 4 * MIB, 8 * MIB
FAR = "127.0.0.2"
"""Another address of this host, so that what goes there is under a rule."""
AT_ONCE = 6 * MIB
"""What may pass at once: a unit of each transfer, what is kept of a tenth of a second, tables and frames."""
WINDOW_S = 3.0
CLOCK = SystemClock()


class Watch:
    """How large the files of two repositories were, all the time."""

    def __init__(self, *folders: Path) -> None:
        self.folders = folders
        self.samples: list[tuple[float, tuple[int, ...]]] = []

    def size(self, folder: Path) -> int:
        return sum(file.stat().st_size for file in chain_files(folder))

    def until(self, is_so: Callable[[], bool], *commands: Command) -> None:
        """Look on until something is so, while commands run."""
        pause = threading.Event()
        while not is_so():
            for command in commands:
                assert command.is_running(), command.result()
            self.samples.append((CLOCK.monotonic_s(), tuple(map(self.size, self.folders))))
            pause.wait(0.05)

    def until_rates(self, least: int, most: int, folders: Sequence[Path], *commands: Command) -> None:
        """Look on until some files have all grown at such a rate for a while; on a busy host that takes its time."""
        since_s = CLOCK.monotonic_s()
        self.until(lambda: all(least < rate < most for rate in self.rates(folders, since_s)), *commands)

    def rates(self, folders: Sequence[Path], since_s: float) -> list[float]:
        """Return how fast files grew over the last seconds, in bytes per second: zero where it is not long enough."""
        samples = [sample for sample in self.samples if sample[0] >= since_s]
        ended_s, after = samples[-1] if samples else (since_s, ())
        earlier = [sample for sample in samples if ended_s - sample[0] >= WINDOW_S]
        if not earlier:
            return [0.0 for _ in folders]
        began_s, before = earlier[-1]
        places = [self.folders.index(folder) for folder in folders]
        return [(after[place] - before[place]) / (ended_s - began_s) for place in places]

    def expect_below(self, limit: int, since_s: float) -> None:
        """Over no time passed more than the limit allows."""
        samples = [(at_s, sum(sizes)) for at_s, sizes in self.samples if at_s >= since_s]
        for index, (began_s, before) in enumerate(samples):
            for ended_s, after in samples[index:]:
                if ended_s - began_s >= WINDOW_S:
                    assert after - before <= limit * (ended_s - began_s) + AT_ONCE, (before, after, ended_s - began_s)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[DemoPlace]:
    with opened_place(tmp_path / "home") as (place, _), Crew(place, CLOCK) as crew, Crew(place, CLOCK) as other:
        prepare(place)
        crew.start("control")
        crew.start("proxy")
        crew.start("repository")
        other.start("repository", "--name", "annex")
        yield place


def prepare(place: DemoPlace) -> None:
    """Make two machines and two repositories, a job for each, and a rule over both."""
    ports = free_ports(2)
    path = f"path = {json.dumps(str(place.repository))}"
    told = place.config.read_text("utf-8").replace(path, f'{path}\nmover = "{FAR}:{ports[0]}"')
    job = told[told.index("[[jobs]]") :].replace('"web01", "db01"', f'"{LARGE}"').replace('"vault"', '"annex"')
    annex = f'[[repositories]]\nname = "annex"\npath = {json.dumps(str(annex_of(place)))}\nmover = "{FAR}:{ports[1]}"\n'
    rule = f'[[throttling]]\nname = "line"\nsource = "127.0.0.1"\ntarget = "{FAR}"\nlimit = {LIMIT}\n'
    told = told.replace('"web01", "db01"', f'"{SMALL}"')
    place.config.write_text("\n".join((told, annex, rule, job.replace(f'name = "{JOB}"', f'name = "{OTHER_JOB}"'))))
    provider = LocalProvider.create(place.provider, CLOCK)
    chance = random.Random(22)
    for name, size in SIZES.items():
        disk = place.disks / f"{name}.raw"
        disk.write_bytes(chance.randbytes(size))
        provider.add_machine(name, {DiskKey("data"): disk})
    for number, folder in enumerate((place.repository, annex_of(place))):
        Repository.create(folder, HostFiles(), f"{number:032x}", CLOCK.now())


def annex_of(place: DemoPlace) -> Path:
    return place.root / "annex"


def held(place: DemoPlace) -> list[float]:
    """Return what each worker may have of the rule."""
    document = Command(place, "limits").result()
    return [member["holds"]["throttling rule line"] for member in document["members"]]


def test_two_workers_stay_together_below_a_rule_that_is_changed_and_shared_anew(place: DemoPlace) -> None:
    annex = annex_of(place)
    watch = Watch(place.repository, annex)
    large = Command(place, "backup", OTHER_JOB)
    watch.until(lambda: watch.size(annex) > 4 * MIB, large)
    small = Command(place, "backup", JOB)
    watch.until(lambda: watch.size(place.repository) > 8 * MIB, small, large)
    watch.until_rates(LIMIT // 4, LIMIT * 3 // 4, (place.repository, annex), small, large)
    watch.expect_below(LIMIT, 0.0)
    changed_s = CLOCK.monotonic_s()
    place.config.write_text(place.config.read_text("utf-8").replace(f"limit = {LIMIT}", f"limit = {HIGHER}"))
    watch.until(lambda: not small.is_running(), large)
    watch.until(lambda: held(place) == [HIGHER], large)
    watch.until_rates(HIGHER * 3 // 4, 2 * HIGHER, (annex,), large)
    watch.expect_below(HIGHER, changed_s)
    for command in (small, large):
        found = command.result()
        assert found["session"]["outcome"] == "success", found
        assert "for its share of throttling rule line" in found["tasks"][0]["detail"]

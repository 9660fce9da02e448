"""A repository behind two movers: fulls and restores over TLS, deaths of both sides, many disks, a long line."""

import os
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import msgspec

from tests.bench.child import Request, Result, read_progress
from tests.bench.identities import make_identities
from tests.bench.ledger import MIB, Ledger
from tests.bench.long_line import FAR, is_possible, long_line
from tests.bench.measure import run, settle, warm_up
from tests.bench.ours import Ours
from tests.bench.pair import Ends, PairResult, proxy_side, repository_side, run_pair
from tests.bench.proxy_side import ProxyRequest
from tests.bench.relay import LineShape
from tests.bench.repository_side import RepositoryRequest
from tests.bench.rounds import PEAK_MIB_MAX
from tests.bench.singles import READ_AGAIN, RESENT_MIB_MAX, has_reached, lost_mib

MOVERS = "Through two movers: five TLS connections over loopback"
KILLED = "Both movers killed (SIGKILL) in the middle of a full, and resumed"
MANY = "64 disks at once through one repository's mover"
LONG = "A line of 150 ms, 1 Gbit/s and 0.1 % loss"
SENT_AGAIN = "one kill: data sent again, as the repository counts it"
GARBAGE = "stored beyond what a full takes that nobody kills"
LINK_SHARE = "share of the line, from the first quarter to the third"
LINK_WHOLE = "share of the line, all in all"
LINK_BACK = "restore: share of the line, all in all"
_LOOPBACK = "127.0.0.1"
_RATE_MIN = 400
_CPU_S_MAX = 12
_DISKS = 64
_PROXIES = 4
_DISK_MIB = 64
_MANY_MIB_MAX = 768
_LONG_MIB = 2048
_GARBAGE_MIB_MAX = 1
"""Pages of tables that each commit writes anew and a later one frees."""
_KILLS = (0.2, 0.5, 0.8)


def run_movers(ledger: Ledger) -> None:
    """Make fulls of the image over TLS, and restore them."""
    certificates = make_identities(ledger.work / "tls", [_LOOPBACK])
    reference = ledger.reference
    ours = Ours(ledger.work)
    for _ in range(ledger.runs):
        ours.clean()
        warm_up(reference.path)
        full = run_pair(ours.request("backup", "full", reference.path), certificates, reference.size_bytes)
        _add_pair(ledger, "full", full)
        settle()
        restore = run_pair(ours.request("restore"), certificates)
        _add_pair(ledger, "restore", restore)
        run(["cmp", str(reference.path), str(ours.target)])
        ledger.add(MOVERS, "restore / full, time", restore.seconds / full.seconds, "x")
    ours.clean()
    ledger.set_floor(MOVERS, "full: data rate", _RATE_MIN)
    ledger.set_goal(MOVERS, "full: processor, both sides", _CPU_S_MAX)
    ledger.set_goal(MOVERS, "restore / full, time", 1.0)
    for what in ("full", "restore"):
        for side in ("proxy", "repository"):
            ledger.set_bound(MOVERS, f"{what}: peak memory, {side}", PEAK_MIB_MAX)


def _add_pair(ledger: Ledger, what: str, found: PairResult) -> None:
    [disk] = found.disks
    print(f"  {MOVERS}, {what}: {found.seconds:.1f} s, processor {found.cpu_s:.1f} s", flush=True)
    ledger.add(MOVERS, f"{what}: time", found.seconds, "s")
    ledger.add(MOVERS, f"{what}: data rate", disk.figures.read_bytes / MIB / found.seconds, "MiB/s")
    ledger.add(MOVERS, f"{what}: processor, both sides", found.cpu_s, "s")
    ledger.add(MOVERS, f"{what}: processor, proxy", found.proxy.cpu_s, "s")
    ledger.add(MOVERS, f"{what}: peak memory, proxy", disk.peak_mib, "MiB")
    ledger.add(MOVERS, f"{what}: peak memory, repository", found.repository.peak_mib, "MiB")


def run_killed_movers(ledger: Ledger, kills: tuple[float, ...] = _KILLS) -> None:
    """Kill both sides of one full again and again; note what is sent again, and compare the result with the image."""
    certificates = make_identities(ledger.work / "tls", [_LOOPBACK])
    ours, reference = Ours(ledger.work), ledger.reference
    ours.clean()
    warm_up(reference.path)
    record = ledger.work / "progress"
    request = msgspec.structs.replace(ours.request("backup", "full", reference.path), progress=str(record))
    serving = RepositoryRequest(request=request, size_bytes=reference.size_bytes, certificates=certificates)
    disks: list[Result] = []
    for fraction in (*kills, None):
        record.unlink(missing_ok=True)
        watch = None if fraction is None else has_reached(record, int(fraction * reference.size_bytes))
        with repository_side(serving) as repository:
            asked = ProxyRequest(request=request, movers=repository.movers, certificates=certificates)
            measured, disks = proxy_side(asked, watch=watch)
            if watch is None:
                repository.finish()
        if watch is not None:
            assert measured.killed, "the full was over before it could be killed"
            again_mib, _ = lost_mib(reference, ours, read_progress(record))
            ledger.add(KILLED, READ_AGAIN, again_mib, "MiB")
    ledger.add(KILLED, SENT_AGAIN, disks[0].figures.resent_bytes / MIB / len(kills), "MiB")
    ledger.set_bound(KILLED, SENT_AGAIN, RESENT_MIB_MAX)
    ours.restore()
    run(["cmp", str(reference.path), str(ours.target)])
    ledger.add(KILLED, "bytes that differ after the restore", 0, "")
    ledger.set_goal(KILLED, "bytes that differ after the restore", 0)
    killed_bytes = ours.stored_bytes()
    ours.clean()
    record.unlink()
    ours.full(reference.path)
    ledger.add(KILLED, GARBAGE, (killed_bytes - ours.stored_bytes()) / MIB, "MiB")
    ledger.set_bound(KILLED, GARBAGE, _GARBAGE_MIB_MAX)
    ours.clean()


def run_many(ledger: Ledger, disks: int = _DISKS, disk_mib: int = _DISK_MIB) -> None:
    """Bring disks of as many machines over at once, and back; note how alike they are served."""
    certificates = make_identities(ledger.work / "tls", [_LOOPBACK])
    image, ours = _block(ledger.work, disk_mib), Ours(ledger.work, passphrase=None)
    for _ in range(ledger.runs):
        ours.clean()
        request = _from_memory(ours, image)
        asked = RepositoryRequest(request=request, size_bytes=disk_mib * MIB, machines=disks, certificates=certificates)
        _carry_many(ledger, "full", asked, disk_mib)
        settle()
        # To memory, as they came from it: what storages of proxies do at once is not what the repository gives.
        request = msgspec.structs.replace(ours.request("restore"), from_memory=True)
        asked = RepositoryRequest(request=request, machines=disks, certificates=certificates)
        _carry_many(ledger, "restore", asked, disk_mib)
    ours.clean()
    image.unlink()


def _carry_many(ledger: Ledger, what: str, asked: RepositoryRequest, disk_mib: int) -> None:
    with repository_side(asked) as repository:

        def carry(number: int) -> list[Result]:
            movers = repository.movers[number::_PROXIES]
            proxy = ProxyRequest(request=asked.request, movers=movers, certificates=asked.certificates, threads=1)
            return proxy_side(proxy)[1]

        with ThreadPoolExecutor(_PROXIES) as pool:
            seconds = sorted(disk.seconds for found in pool.map(carry, range(_PROXIES)) for disk in found)
        served = repository.finish()
    middle, name = median(seconds), f"{what}: peak memory of the repository's process"
    slowest, fastest = (f"{what}: the {which} disk / the one in the middle, time" for which in ("slowest", "fastest"))
    ledger.add(MANY, f"{what}: time of a disk in the middle", middle, "s")
    ledger.add(MANY, slowest, seconds[-1] / middle, "x")
    ledger.add(MANY, fastest, seconds[0] / middle, "x")
    ledger.add(MANY, f"{what}: rate of all", len(seconds) * disk_mib / seconds[-1], "MiB/s")
    ledger.add(MANY, name, served.peak_mib, "MiB")
    ledger.set_goal(MANY, slowest, 1.1)
    ledger.set_floor(MANY, fastest, 0.9)
    ledger.set_bound(MANY, name, _MANY_MIB_MAX)


def run_long_line(ledger: Ledger, size_mib: int = _LONG_MIB) -> None:
    """Bring a disk that does not compress over an emulated line; nothing is measured where none can be made."""
    if not is_possible():
        print("  no line can be emulated: that takes root, the program ip and /dev/net/tun")
        return
    certificates = make_identities(ledger.work / "tls-long", [FAR])
    image, ours, shape = _block(ledger.work, size_mib), Ours(ledger.work), LineShape()
    for _ in range(ledger.runs):
        ours.clean()
        with long_line(shape) as line:
            ends = Ends(proxy=line.on_near(), repository=line.on_far(), host=FAR)
            found = run_pair(_from_memory(ours, image), certificates, size_mib * MIB, ends)
            restore = run_pair(ours.request("restore"), certificates, ends=ends)
        [disk] = found.disks
        [fetched] = restore.disks
        print(f"  {LONG}, by {line.emulation}: {found.seconds:.1f} s, back {fetched.seconds:.1f} s", flush=True)
        ledger.add(LONG, "full: time", found.seconds, "s")
        ledger.add(LONG, "full: until the line was open and greeted", disk.parts["open"], "s")
        ledger.add(LONG, "full: rate", size_mib / disk.seconds, "MiB/s")
        middle_s = disk.parts["reached 3"] - disk.parts["reached 1"]
        ledger.add(LONG, LINK_SHARE, size_mib / 2 / middle_s / shape.mib_per_s * 100, "%")
        ledger.add(LONG, LINK_WHOLE, size_mib / disk.seconds / shape.mib_per_s * 100, "%")
        ledger.add(LONG, "full: peak memory, proxy", disk.peak_mib, "MiB")
        ledger.add(LONG, "full: peak memory, repository", found.repository.peak_mib, "MiB")
        rate_back = size_mib / fetched.seconds
        ledger.add(LONG, LINK_BACK, rate_back / shape.mib_per_s * 100, "%")
        ledger.add(LONG, "restore: peak memory, proxy", fetched.peak_mib, "MiB")
        ledger.add(LONG, "restore: peak memory, repository", restore.repository.peak_mib, "MiB")
    for name in (LINK_SHARE, LINK_WHOLE, LINK_BACK):
        ledger.set_floor(LONG, name, 80)
    ours.clean()
    image.unlink()


def _block(work: Path, size_mib: int) -> Path:
    """Make the image of a `MemoryDisk`: one block that does not compress, and the size of the disk."""
    image = work / "block.raw"
    image.write_bytes(random.Random(1).randbytes(MIB))
    os.truncate(image, size_mib * MIB)
    return image


def _from_memory(ours: Ours, image: Path) -> Request:
    return msgspec.structs.replace(ours.request("backup", "full", image), from_memory=True)

"""`python -m tests.bench`: measure the engine beside the tools people know; the figures go to docs/performance.md."""

import argparse
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

import msgspec

from holdfast.clock import SystemClock
from tests.bench.chains import run_merging
from tests.bench.host import load_average, machine_facts
from tests.bench.index_memory import run_index_memory
from tests.bench.ledger import MIB, Ledger
from tests.bench.mover import run_link
from tests.bench.movers import run_killed_movers, run_long_line, run_many, run_movers
from tests.bench.openings import run_opening
from tests.bench.page import Report, completed, rendered, write_into
from tests.bench.reference import changed_image, reference_image
from tests.bench.retention import run_retention
from tests.bench.rounds import INCREMENT, installed_peers, run_rounds
from tests.bench.singles import run_huge, run_python, run_resume
from tests.bench.upkeep_memory import run_upkeep_memory
from tests.bench.vsphere import run_vsphere


def main() -> None:
    """Measure, print the tables, and write the figures to a file."""
    options = _options()
    work: Path = options.work
    work.mkdir(parents=True, exist_ok=True)
    clock = SystemClock()
    date = clock.now().date().isoformat()
    started_load = load_average()
    reference = reference_image(work, options.scale)
    ledger = Ledger(work, reference, options.runs)
    chosen = {name: part for name, part in PARTS.items() if not options.only or name in options.only}
    failed = [name for name, part in chosen.items() if not _measured(name, part, ledger)]
    facts = machine_facts(work) | {"load before and after": f"{started_load:.1f} and {load_average():.1f}"}
    report = Report(date=date, facts=facts, image=reference, series=ledger.series())
    if options.keep:
        earlier = msgspec.json.decode(options.keep.read_bytes(), type=Report)
        report = completed(report, earlier, [*chosen])
    print(rendered(report))
    if options.page and not failed:
        write_into(options.page, report)
    found = options.json or work / "figures.json"
    found.write_bytes(msgspec.json.format(msgspec.json.encode(report)))
    print(f"figures: {found}")
    for missed in report.goals_missed:
        print(f"goal missed: {missed}")
    if failed:
        raise SystemExit(f"not measured: {', '.join(failed)}")


def _measured(name: str, part: Callable[[Ledger], None], ledger: Ledger) -> bool:
    """Measure one part; when it breaks the others, which may have taken half an hour, stay."""
    print(f"measuring: {name}", flush=True)
    try:
        part(ledger)
    except Exception:  # noqa: BLE001 - shown here, and the run ends with an error that names the part
        traceback.print_exc()
        return False
    return True


def _rounds(ledger: Ledger) -> None:
    first = changed_image(ledger.reference.path, 1)
    changes = [first, changed_image(first.path, 2)]
    ledger.add(INCREMENT, "changed", changes[0].changed_bytes / MIB, "MiB")
    ledger.add(INCREMENT, "ideal: changed pieces packed and compressed", changes[0].ideal_bytes / MIB, "MiB")
    run_rounds(ledger, changes, installed_peers(ledger.work))


PARTS: dict[str, Callable[[Ledger], None]] = {
    "rounds": _rounds,
    "resume": run_resume,
    "huge": run_huge,
    "opening": run_opening,
    "index": run_index_memory,
    "upkeep-memory": run_upkeep_memory,
    "merging": run_merging,
    "python": run_python,
    "link": run_link,
    "movers": run_movers,
    "killed-movers": run_killed_movers,
    "many": run_many,
    "long-line": run_long_line,
    "retention": run_retention,
    "vsphere": run_vsphere,
}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    default = Path(tempfile.gettempdir()) / "holdfast-bench"
    parser.add_argument(
        "--work", type=Path, default=default, help="folder of images and repositories; keeps the images"
    )
    parser.add_argument("--scale", type=float, default=1.0, help="size of the image; 1 is 5 GiB with 3.2 GiB of data")
    parser.add_argument("--runs", type=int, default=3, help="how often each figure is taken")
    parser.add_argument("--page", type=Path, help="page to write goals and figures into: docs/performance.md")
    parser.add_argument("--json", type=Path, help="where the figures go; default: figures.json in the work folder")
    parser.add_argument("--keep", type=Path, help="figures of an earlier run; those not taken now stay as they are")
    parser.add_argument("--only", action="append", choices=PARTS, help="only this part")
    return parser.parse_args()


if __name__ == "__main__":
    main()

"""A backup over movers, by a worker process for each role: one trace through all of them, and metrics of each."""

import json
import random
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from holdfast.clock import SystemClock
from tests.scenarios.apart import DISK, MACHINE, elsewhere_of, give_mover, make_machine
from tests.scenarios.places import opened_place
from workers.demo.crew import Command, Crew
from workers.demo.place import JOB, PROXY, REPOSITORY, DemoPlace
from workers.loopback import LOOPBACK, free_ports

# The first test also pays for the start of everything.
pytestmark = [pytest.mark.slow, pytest.mark.temporal, pytest.mark.timeout(400)]

MIB = 1 << 20
DISK_BYTES = 20 * MIB
SERIES = re.compile(r"^(\w+)\{(.*)\} ([0-9.e+]+)$", re.MULTILINE)
LABEL = re.compile(r'(\w+)="([^"]*)"')


class Told(msgspec.Struct):
    """What three workers told of one backup and one restore."""

    backup: dict[str, Any]
    restore: dict[str, Any]
    spans: dict[str, list[dict[str, Any]]]
    """By role."""
    pages: dict[str, str]
    """What Prometheus would have got, by role."""

    def value(self, role: str, metric: str, **labels: str) -> float:
        """Return the sum of the series of a metric that have these labels."""
        found = 0.0
        for name, told, value in SERIES.findall(self.pages[role]):
            if name == metric and labels.items() <= dict(LABEL.findall(told)).items():
                found += float(value)
        return found


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    with opened_place(tmp_path_factory.mktemp("telemetry")) as (place, _):
        place.config.write_text(place.config.read_text("utf-8") + '\n[telemetry]\nexporter = "console"\n')
        [port] = free_ports(1)
        give_mover(place, f"{LOOPBACK}:{port}")
        half = random.Random(3).randbytes(DISK_BYTES // 2)
        make_machine(place, half + half)
        far = elsewhere_of(place)
        yield run(place, far)


def run(place: DemoPlace, far: DemoPlace) -> Told:
    addresses = dict(
        zip(("control", "repository", "proxy"), (f"{LOOPBACK}:{port}" for port in free_ports(3)), strict=True)
    )
    logs = {"control": place.logs, "repository": place.logs, "proxy": far.logs}
    with Crew(place, SystemClock()) as home, Crew(far, SystemClock()) as elsewhere:
        for role, crew in (("control", home), ("repository", home), ("proxy", elsewhere)):
            crew.start(role, "--metrics", addresses[role])
        backup = Command(place, "backup", JOB).result()
        [point] = backup["points"]
        restore = Command(place, "restore", point["point_id"], "--as", "again").result()
        pages = {role: scraped(address) for role, address in addresses.items()}
    return Told(backup, restore, {role: spans(logs[role] / f"{role}.log") for role in logs}, pages)


def scraped(address: str) -> str:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
        page: bytes = answer.read()
    return page.decode()


def spans(log: Path) -> list[dict[str, Any]]:
    """Return the spans in a log, in which each is a document over several lines."""
    text, decoder, found = log.read_text("utf-8"), json.JSONDecoder(), []
    for start in (match.start() for match in re.finditer(r"^\{$", text, re.MULTILINE)):
        document, _ = decoder.raw_decode(text, start)
        found += [document] if "context" in document else []
    return found


def names(told: Told, role: str, trace: str) -> set[str]:
    return {span["name"] for span in told.spans[role] if span["context"]["trace_id"] == trace}


def test_one_trace_shows_the_session_in_all_three_roles(told: Told) -> None:
    [job] = [span for span in told.spans["control"] if span["name"] == "RunWorkflow:BackupJob"]
    trace = job["context"]["trace_id"]
    assert {
        "StartChildWorkflow:MachineBackup",
        "RunWorkflow:MachineBackup",
        "StartActivity:transfer.copy_disk",
    } <= names(told, "control", trace)
    assert {"RunActivity:snapshot.create", "RunActivity:transfer.copy_disk"} <= names(told, "proxy", trace)
    assert {"RunActivity:repository.begin_point", "mover.write", "mover.files"} <= names(told, "repository", trace)


def test_what_the_mover_does_is_a_part_of_the_proxys_task(told: Told) -> None:
    for kind, activity, direction in (("backup", "copy", "write"), ("restore", "restore", "read")):
        [task] = [span for span in told.spans["proxy"] if span["name"] == f"RunActivity:transfer.{activity}_disk"]
        [served] = [span for span in told.spans["repository"] if span["name"] == f"mover.{direction}"]
        assert served["context"]["trace_id"] == task["context"]["trace_id"], kind
        assert served["parent_id"] == task["context"]["span_id"]
        assert served["attributes"]["holdfast.repository"] == REPOSITORY


def test_a_proxy_tells_what_it_moved_and_what_held_it_up(told: Told) -> None:
    for document, kind in ((told.backup, "backup"), (told.restore, "restore")):
        figures, labels = document["session"]["figures"], {"kind": kind, "repository": REPOSITORY}
        assert told.value("proxy", "holdfast_read_bytes_total", **labels) == figures["read_bytes"]
        assert told.value("proxy", "holdfast_transferred_bytes_total", **labels) == figures["transferred_bytes"]
        assert told.value("proxy", "holdfast_tasks_total", **labels, outcome="success") == 1
        stage = document["bottleneck"]
        assert told.value("proxy", "holdfast_task_bottlenecks_total", **labels, stage=stage) == 1
    wait = {"kind": "backup", "queue": f"proxy.{PROXY}.transfer"}
    assert told.value("proxy", "holdfast_task_wait_seconds_count", **wait) == 1


def test_a_repository_tells_of_its_commits_pieces_and_movers(told: Told) -> None:
    here = {"repository": REPOSITORY}
    assert told.value("repository", "holdfast_commit_duration_seconds_count", **here) >= 1
    assert told.value("repository", "holdfast_pieces_total", **here, fate="stored") == DISK_BYTES / 2 // 65536
    assert told.value("repository", "holdfast_pieces_total", **here, fate="known") == DISK_BYTES / 2 // 65536
    for direction in ("write", "read"):
        labels = {"direction": direction, "outcome": "success"}
        assert told.value("repository", "holdfast_mover_sessions_total", **here, **labels) == 1


def test_control_tells_of_sessions_and_every_worker_of_the_sdk(told: Told) -> None:
    labels = {"kind": "backup", "job": JOB, "outcome": "success"}
    assert told.value("control", "holdfast_sessions_total", **labels) == 1
    assert told.value("control", "holdfast_session_last_end_timestamp_seconds", **labels) > 1.7e9
    for page in told.pages.values():
        assert "temporal_request" in page


def test_no_label_names_a_machine_a_disk_or_a_session(told: Told) -> None:
    session = told.backup["session"]["session_id"]
    for role, page in told.pages.items():
        ours = [line for line in page.splitlines() if line.startswith("holdfast_")]
        assert ours, role
        assert not [line for line in ours if MACHINE in line or f'"{DISK}"' in line or session in line]

"""The lab vCenter's life: compile once, start, find again, crash, restart, stop."""

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.errors import ConfigurationInvalid, ServerUnavailable, ToolMissing
from tests.lab.vcenter.running import lab_in
from workers import vcenter_lab
from workers.processes import ProcessMark
from workers.vcenter_lab import VCenterLab, VCenterSettings, build, control, find_go, sources_digest

pytestmark = pytest.mark.vsphere

SMALL = VCenterSettings(clusters=0, machines=1)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[VCenterLab]:
    with lab_in(tmp_path / "lab", SMALL) as lab:
        yield lab


def machines(lab: VCenterLab) -> object:
    address = lab.address()
    assert address is not None
    return control(address, "GET", "/disks")


def test_a_lab_starts_is_found_again_and_survives_a_crash(lab: VCenterLab, tmp_path: Path) -> None:
    assert lab.address() is None
    first = lab.start()
    again = VCenterLab(tmp_path / "lab", SMALL)
    assert again.start() == again.address() == first
    known = machines(again)
    assert isinstance(known, list)
    assert [entry["machine"] for entry in known] == ["DC0_H0_VM0"]

    assert again.kill()
    assert lab.address() is None
    second = lab.start()
    assert second.pid != first.pid
    assert (second.instance_uuid, second.thumbprint) == (first.instance_uuid, first.thumbprint)
    assert machines(lab) == known

    assert lab.stop()
    assert not lab.stop()
    assert lab.address() is None
    with pytest.raises(ServerUnavailable):
        control(second, "GET", "/healthz")


def test_a_foreign_process_with_the_recorded_number_is_left_alone(lab: VCenterLab) -> None:
    address = lab.start()
    lab.kill()
    # The number now stands for this very test, which began at another time.
    lab._write_state(ProcessMark(pid=os.getpid(), started="another boot"))
    assert lab.address() is None
    assert not lab.kill()
    assert lab.start().instance_uuid == address.instance_uuid


def test_nothing_runs_for_a_folder_that_is_not_there(tmp_path: Path) -> None:
    lab = VCenterLab(tmp_path / "none")
    assert lab.address() is None
    assert not lab.stop()
    assert not (tmp_path / "none").exists()


def test_what_the_control_endpoint_refuses_is_told(lab: VCenterLab) -> None:
    address = lab.start()
    with pytest.raises(ConfigurationInvalid, match="no such machine: nobody"):
        control(address, "POST", "/power-loss", {"machine": "nobody"})


def test_a_program_that_ends_at_once_is_told_with_its_last_words(tmp_path: Path) -> None:
    program = script(tmp_path / "broken", "echo the disk is full >&2; exit 1")
    lab = VCenterLab(tmp_path / "lab", VCenterSettings(program=program))
    with pytest.raises(ServerUnavailable, match="the disk is full"):
        lab.start()
    assert lab.address() is None


def test_sources_are_compiled_once_and_again_when_they_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = tmp_path / "sources"
    sources.mkdir()
    (sources / "main.go").write_text("package main\n", "utf-8")
    count = tmp_path / "count"
    # Stands for the tool: the file behind -o gets the source, and each run leaves a mark.
    tool = script(tmp_path / "go", f'echo run >> {count}\nwhile [ "$1" != -o ]; do shift; done\ncp main.go "$2"')
    monkeypatch.setattr(vcenter_lab, "SOURCES", sources)
    monkeypatch.setattr(vcenter_lab, "find_go", lambda: str(tool))
    first = build(tmp_path / "cache")
    assert first.read_text("utf-8") == "package main\n"
    assert build(tmp_path / "cache") == first
    assert count.read_text("utf-8") == "run\n"

    digest = sources_digest()
    (sources / "main.go").write_text("package main // changed\n", "utf-8")
    assert sources_digest() != digest
    second = build(tmp_path / "cache")
    assert second != first
    assert second.read_text("utf-8") == "package main // changed\n"


def test_sources_that_do_not_compile_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = script(tmp_path / "go", "echo main.go:1: syntax error >&2; exit 1")
    monkeypatch.setattr(vcenter_lab, "find_go", lambda: str(tool))
    with pytest.raises(ConfigurationInvalid, match="syntax error"):
        build(tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*/vcenter"))


def test_missing_tools_and_sources_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(vcenter_lab, "_USUAL_GO", tmp_path / "go")
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    with pytest.raises(ToolMissing, match="`go` is neither on PATH"):
        find_go()
    monkeypatch.setattr(vcenter_lab, "SOURCES", tmp_path / "none")
    with pytest.raises(ToolMissing, match="sources of the lab vCenter"):
        build(tmp_path / "cache")


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n", "utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path

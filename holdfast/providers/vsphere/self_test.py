"""What a self-test makes of the facts of a vCenter: values in, findings out. Nothing here asks anybody."""

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Final

import msgspec

from holdfast.errors import AccessDenied, DiskReadFailed, HoldfastError
from holdfast.model.plan import TransportMode
from holdfast.model.spans import Span
from holdfast.providers.vsphere.privileges import Feature, Missing, by_feature

KNOWN_VERSIONS: Final = (7, 8, 9)
SKEW_MAX_S: Final = 60.0
"""Clocks further apart make times of snapshots and of sessions hard to compare."""
SAMPLE_MAX: Final = 64 << 20
"""Bytes of one disk that are read over one way."""
_NAMED_MAX: Final = 5
_MIB: Final = 1 << 20


class Verdict(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What one check found."""

    check: str
    verdict: Verdict
    text: str
    hint: str = ""
    code: str = ""
    """Of the error, of a check that failed."""
    exit_status: int = 0


class MachineFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What decides whether a machine can be protected."""

    name: str
    is_template: bool = False
    has_configuration: bool = True
    """False while a machine is being made, or while its host is away."""
    can_track: bool = True
    disks: int = 0
    """Disks that a snapshot protects."""
    skipped: tuple[str, ...] = ()
    """Why other disks are left out."""


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """A sample of one disk, read over one way."""

    disk: str
    mode: TransportMode
    read_bytes: int = 0
    duration_s: float = 0.0
    digest: str = ""
    """Of the bytes."""
    problem: str = ""
    """Why it could not be read; empty when it was."""

    @property
    def rate_mib_s(self) -> float:
        """Return the rate in MiB/s; 0 when it took no time that could be measured."""
        return self.read_bytes / _MIB / self.duration_s if self.duration_s > 0 else 0.0


def ok(check: str, text: str) -> Finding:
    """Return the finding that all is well."""
    return Finding(check=check, verdict=Verdict.OK, text=text)


def warning(check: str, text: str, hint: str) -> Finding:
    """Return the finding of something that works, and that somebody should look at."""
    return Finding(check=check, verdict=Verdict.WARNING, text=text, hint=hint)


def failed(check: str, error: HoldfastError) -> Finding:
    """Return the finding of something that does not work."""
    return Finding(
        check=check,
        verdict=Verdict.FAILED,
        text=error.message,
        hint=error.hint,
        code=error.code,
        exit_status=error.exit_status,
    )


def judge_product(full_name: str, api_version: str) -> Finding:
    """Return whether a version is one that Holdfast was made for."""
    major = api_version.partition(".")[0]
    text = f"{full_name}, API {api_version}"
    if major.isascii() and major.isdigit() and int(major) in KNOWN_VERSIONS:
        return ok("product", text)
    known = ", ".join(map(str, KNOWN_VERSIONS))
    return warning("product", text, f"Known versions are {known}; read with care what follows, and try a restore.")


def judge_clocks(theirs: datetime, ours: datetime) -> Finding:
    """Return whether the clock of the vCenter agrees with the one of this host."""
    skew_s = (theirs - ours).total_seconds()
    if abs(skew_s) < SKEW_MAX_S:
        return ok("clock", f"{abs(skew_s):.1f} s apart")
    side = "ahead of" if skew_s > 0 else "behind"
    return warning(
        "clock",
        f"the vCenter is {abs(skew_s):.0f} s {side} this host",
        "Let both follow the same time server; certificates and times of snapshots depend on it.",
    )


def judge_privileges(found: Iterable[Missing]) -> Iterator[Finding]:
    """Yield a finding for each feature. Only what a backup lacks everywhere is a failure."""
    for feature, entries in by_feature(found).items():
        check = f"privileges for {feature}"
        if not entries:
            yield ok(check, "all there")
            continue
        text = "missing: " + "; ".join(_lacking(one) for one in entries)
        need = "" if feature is Feature.BACKUP else f"Needed for {feature} only. "
        hint = f"{need}Add them to the account's role; docs/reference/vsphere-privileges.md says what each is for."
        if feature is Feature.BACKUP and any(one.is_everywhere for one in entries):
            yield failed(check, AccessDenied(text, hint=hint))
        else:
            yield warning(check, text, hint)


def _lacking(one: Missing) -> str:
    place = one.privilege.place
    if one.is_everywhere:
        return f"{one.privilege.name} on every {place}"
    return f"{one.privilege.name} on {len(one.on)} of {one.asked} {place}s ({named(one.on)})"


def judge_inventory(machines: Iterable[MachineFacts]) -> Iterator[Finding]:
    """Yield how many machines there are, and which cannot be protected or not wholly, and why."""
    seen = 0
    groups: dict[str, list[str]] = {}
    for machine in machines:
        seen += 1
        for group in _obstacles(machine):
            groups.setdefault(group, []).append(machine.name)
    if not seen:
        hint = "Give the account its role on a folder or datacenter with machines, with propagation."
        yield warning("machines", "the account sees none", hint)
        return
    yield ok("machines", f"{seen} seen, {seen - len(_left_out(groups))} can be protected")
    for group, names in groups.items():
        noun, what, hint = _OBSTACLES[group]
        text = f"{counted(len(names), noun)}{what}: {named(names)}"
        yield warning(group, text, hint) if hint else ok(group, text)


def _obstacles(machine: MachineFacts) -> Iterator[str]:
    if machine.is_template:
        yield "templates"
    elif not machine.has_configuration:
        yield "machines away"
    elif machine.skipped:
        yield "disks left out" if machine.disks else "no disk protected"
    if not machine.can_track and not machine.is_template and machine.has_configuration:
        yield "no change tracking"


def _left_out(groups: Mapping[str, Sequence[str]]) -> list[str]:
    return [name for group in ("templates", "machines away", "no disk protected") for name in groups.get(group, ())]


_OBSTACLES: Final = {
    "templates": ("template", ", which cannot be frozen", ""),
    "machines away": (
        "machine",
        " without a configuration",
        "Their host is away, or they are being made; look at them in the vSphere Client.",
    ),
    "disks left out": (
        "machine",
        " with disks that snapshots leave out",
        "`holdfast machines` names the disks and why; make them dependent, or protect them from inside the guest.",
    ),
    "no disk protected": (
        "machine",
        " without any disk that can be protected",
        "`holdfast machines` names the disks and why; make them dependent, or protect them from inside the guest.",
    ),
    "no change tracking": (
        "machine",
        " without support for change tracking",
        "They are read as a whole every time; raise their hardware version to 7 or newer.",
    ),
}
"""What is said of each group of machines, and what to do about it; without a hint it is as it should be."""


def sample_of(allocated: Iterable[Span], size_bytes: int, most: int = SAMPLE_MAX) -> tuple[Span, ...]:
    """Return what to read of a disk: its first allocated bytes, at most ``most``; else its beginning."""
    chosen: list[Span] = []
    left = min(most, size_bytes)
    for span in allocated:
        if left <= 0:
            break
        chosen.append(Span(span.start, min(span.length, left)))
        left -= chosen[-1].length
    return tuple(chosen) or (Span(0, left),)


def judge_readings(readings: Sequence[Reading]) -> Iterator[Finding]:
    """Yield how each way went for one disk, and whether the ways agree.

    A way that does not work is a warning as long as another does.
    """
    working = [one for one in readings if not one.problem]
    for one in readings:
        check = f"disk {one.disk} over {one.mode}"
        if not one.problem:
            yield ok(check, f"{one.read_bytes / _MIB:.1f} MiB in {one.duration_s:.2f} s, {one.rate_mib_s:.0f} MiB/s")
        elif working:
            yield warning(check, one.problem, f"Disks are read over {working[0].mode} instead.")
        else:
            yield failed(check, DiskReadFailed(one.problem, hint="Repair one of the ways; no backup can read this."))
    if len(working) > 1:
        yield _agreement(working)


def _agreement(working: Sequence[Reading]) -> Finding:
    check = f"disk {working[0].disk} compared"
    modes = " and ".join(one.mode for one in working)
    if len({one.digest for one in working}) == 1:
        return ok(check, f"{modes} give the same bytes")
    hint = "Do not trust backups of this machine; leave one way out of `transports` and report what you see."
    return failed(check, DiskReadFailed(f"{modes} give different bytes of the same snapshot", hint=hint))


def summary_of(readings: Iterable[Reading]) -> Iterator[Finding]:
    """Yield the middle rate of each way over all disks."""
    rates: dict[TransportMode, list[float]] = {}
    for one in readings:
        if not one.problem:
            rates.setdefault(one.mode, []).append(one.rate_mib_s)
    for mode, measured in rates.items():
        yield ok(
            f"rate over {mode}",
            f"{statistics.median(measured):.0f} MiB/s, the middle of {counted(len(measured), 'disk')}",
        )


def named(names: Sequence[str], most: int = _NAMED_MAX) -> str:
    """Return some names, and how many more there are."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def counted(number: int, noun: str) -> str:
    """Return a number and its noun, such as ``1 disk`` or ``2 disks``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"

"""A lab vCenter for as long as a block lasts, and a session to it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

import pytest

from holdfast.errors import ToolMissing
from tests.lab.vcenter.client import Client
from workers.vcenter_lab import VCenterAddress, VCenterLab, VCenterSettings, build

T = TypeVar("T")
_FATAL: Final = ("panic: ", "fatal error: ", "SIGSEGV: ", "SIGBUS: ")
_REASON_LINES: Final = 40


def need_lab() -> None:
    """End the test where no lab can be built; see `unless_missing`."""
    unless_missing(build)


def unless_missing(make: Callable[[], T]) -> T:
    """Return what is made by the tools of the lab.

    Where they are missing the test is skipped; in CI, where they are there, that is a failure (tests/conftest.py).
    """
    try:
        return make()
    except ToolMissing as missing:
        pytest.skip(f"the lab vCenter cannot be built here: {missing.message}. {missing.hint}")


@contextmanager
def lab_in(folder: Path, settings: VCenterSettings) -> Iterator[VCenterLab]:
    """Yield a lab that lives in a folder and is not started yet; the test is skipped where none can be built.

    A lab that ended by itself fails the test, with the reason from its log: tests that only find nobody at its address
    cannot tell it.
    """
    need_lab()
    lab = VCenterLab(folder, settings)
    try:
        yield lab
    finally:
        lab.kill()
        reason = fatal_error(lab.log.read_text("utf-8", "replace") if lab.log.exists() else "")
        if reason:
            pytest.fail(f"the lab vCenter ended by itself:\n{reason}")


def fatal_error(log: str) -> str:
    """Return why the lab's process ended by itself, with the first lines of its stacks; empty when it did not."""
    lines = log.splitlines()
    first = next((number for number, line in enumerate(lines) if line.startswith(_FATAL)), len(lines))
    return "\n".join(lines[first : first + _REASON_LINES])


@contextmanager
def session_of(address: VCenterAddress) -> Iterator[Client]:
    """Yield a session of the administrator; fault rules of earlier tests are gone, and so are those of the block."""
    client = Client(address)
    client.control("DELETE", "/faults")
    try:
        yield client
    finally:
        client.control("DELETE", "/faults")
        client.close()

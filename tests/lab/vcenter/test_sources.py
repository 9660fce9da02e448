"""The tests in the language of the lab: of what no client can see."""

import subprocess

import pytest

from holdfast.errors import ToolMissing
from workers.vcenter_lab import SOURCES, find_go

pytestmark = pytest.mark.vsphere


def test_the_tests_beside_the_sources_pass() -> None:
    try:
        go = find_go()
    except ToolMissing as missing:
        pytest.skip(f"{missing.message}. {missing.hint}")
    command = ["env", "CGO_ENABLED=0", go, "test", "./..."]
    done = subprocess.run(command, cwd=SOURCES, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr

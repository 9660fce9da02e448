"""The tests in the language of the lab: of what no client can see."""

import subprocess

import pytest

from tests.lab.vcenter.running import unless_missing
from workers.vcenter_lab import SOURCES, find_go

pytestmark = pytest.mark.vsphere


def test_the_tests_beside_the_sources_pass() -> None:
    command = ["env", "CGO_ENABLED=0", unless_missing(find_go), "test", "./..."]
    done = subprocess.run(command, cwd=SOURCES, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr

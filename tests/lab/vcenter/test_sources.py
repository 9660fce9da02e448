"""The tests in the language of the lab: of what no client can see."""

import subprocess

import pytest

from tests.lab.vcenter.running import unless_missing
from workers.vcenter_lab import SOURCES, find_go

# On a host that never built the lab its dependencies are compiled first.
pytestmark = [pytest.mark.vsphere, pytest.mark.timeout(400)]


def test_the_tests_beside_the_sources_pass() -> None:
    # With the flags of the lab's build, so that both share what is compiled.
    command = ["env", "CGO_ENABLED=0", unless_missing(find_go), "test", "-trimpath", "-vet=off", "./..."]
    done = subprocess.run(command, cwd=SOURCES, capture_output=True, text=True, check=False, timeout=380)
    assert done.returncode == 0, done.stdout + done.stderr

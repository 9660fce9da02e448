"""What of nbdkit is installed is told, and what is not is named."""

from pathlib import Path

import pytest

from holdfast.errors import ProviderUnavailable, ToolMissing
from holdfast.providers.nbd.versions import nbdkit_facts

FAKE = """#!/bin/sh
[ "$1" = --version ] && echo "nbdkit 1.40.1" && exit 0
echo "name=vddk"; echo "version=1.40.1"; echo "vddk_library_version=8"; echo "args=$*"
"""


@pytest.mark.tools("nbdkit")
def test_program_and_plugin_tell_their_versions() -> None:
    facts = nbdkit_facts(("memory",))
    assert facts.program.endswith("/nbdkit")
    assert (facts.plugin, facts.plugin_version) == ("memory", facts.version)
    assert facts.version[0].isdigit()


@pytest.mark.tools("nbdkit")
def test_a_plugin_that_is_not_installed_is_missing() -> None:
    with pytest.raises(ToolMissing, match="no-such-plugin") as caught:
        nbdkit_facts(("no-such-plugin",))
    assert "Install" in caught.value.hint


def test_the_library_behind_a_plugin_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, monkeypatch, FAKE)
    facts = nbdkit_facts(("vddk",), {"libdir": "/opt/vddk"})
    assert (facts.version, facts.library) == ("1.40.1", "8")


def test_a_program_that_fails_is_told_in_its_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, monkeypatch, "#!/bin/sh\necho 'nbdkit: error: out of order' >&2\nexit 1\n")
    with pytest.raises(ProviderUnavailable, match="--version: out of order"):
        nbdkit_facts(("vddk",))
    program(tmp_path, monkeypatch, "#!/bin/sh\nexit 1\n")
    with pytest.raises(ProviderUnavailable, match="it says nothing"):
        nbdkit_facts(("vddk",))


def test_a_program_that_cannot_be_started_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, monkeypatch, "#!/no/such/interpreter\n")
    with pytest.raises(ProviderUnavailable, match="does not answer"):
        nbdkit_facts(("vddk",))


def program(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Put a program called nbdkit before all others."""
    file = folder / "nbdkit"
    file.write_text(text)
    file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

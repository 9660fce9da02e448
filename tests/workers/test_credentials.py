"""Passphrases are found by name, and only where nobody else can read them."""

from pathlib import Path

import pytest

from holdfast.errors import ConfigurationInvalid, CredentialMissing
from holdfast.model.ids import CredentialName
from workers.credentials import Credentials

NIGHT = CredentialName("night")


def put(folder: Path, content: bytes, mode: int = 0o600) -> Credentials:
    path = folder / "night"
    path.write_bytes(content)
    path.chmod(mode)
    return Credentials(folder)


def test_a_passphrase_is_one_line(tmp_path: Path) -> None:
    assert put(tmp_path, "correct hörse \n".encode()).passphrase(NIGHT) == "correct hörse "


def test_no_name_means_no_passphrase(tmp_path: Path) -> None:
    assert Credentials(tmp_path).passphrase(None) is None


@pytest.mark.parametrize("name", ["nothing", "../night", "", "a/b", ".."])
def test_what_is_not_there_is_missing(tmp_path: Path, name: str) -> None:
    put(tmp_path, b"x\n")
    with pytest.raises(CredentialMissing):
        Credentials(tmp_path / "folder").passphrase(CredentialName(name))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o644])
def test_one_that_others_may_read_or_write_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(ConfigurationInvalid, match=f"its mode is {mode:o}") as caught:
        put(tmp_path, b"x\n", mode).passphrase(NIGHT)
    assert "chmod 600" in caught.value.hint


@pytest.mark.parametrize(
    "content, told",
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"\xff\n", "not text"),
        (b"a\nb\n", "one line"),
        (b"a" * 5000, "one line"),
    ],
)
def test_what_is_no_line_of_text_is_refused(tmp_path: Path, content: bytes, told: str) -> None:
    with pytest.raises((ConfigurationInvalid, CredentialMissing), match=told):
        put(tmp_path, content).passphrase(NIGHT)

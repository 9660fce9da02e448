"""The key of an installation is made once and read by its owner alone."""

from pathlib import Path

import pytest

from holdfast.errors import ConfigurationInvalid, CredentialMissing, RequestInvalid
from holdfast.formats.proof import fingerprint
from holdfast.storage.files.atomic import HostFiles
from workers.proof_keys import ProofKeys, read_public


@pytest.fixture
def keys(tmp_path: Path) -> ProofKeys:
    return ProofKeys(tmp_path / "home", HostFiles())


def test_a_key_is_made_once(keys: ProofKeys) -> None:
    assert not keys.has_public()
    mark = fingerprint(keys.make())
    assert keys.has_public()
    assert fingerprint(keys.private().public_key()) == fingerprint(keys.public()) == mark
    assert keys.private_path.stat().st_mode & 0o777 == 0o600
    assert keys.public_path.stat().st_mode & 0o777 == 0o644
    for path in (keys.public_path, keys.private_path):
        with pytest.raises(RequestInvalid, match="there already"):
            keys.make()
        path.rename(path.with_suffix(".kept"))
    assert fingerprint(keys.make()) != mark


def test_a_missing_key_is_told_with_what_to_do(keys: ProofKeys) -> None:
    with pytest.raises(CredentialMissing) as caught:
        keys.private()
    assert "prove keygen" in caught.value.hint
    with pytest.raises(CredentialMissing, match="no public key"):
        keys.public()


def test_a_key_that_others_may_read_is_refused(keys: ProofKeys) -> None:
    keys.make()
    keys.private_path.chmod(0o640)
    with pytest.raises(ConfigurationInvalid, match="may be read by others"):
        keys.private()


def test_a_file_that_is_no_key_is_named(keys: ProofKeys) -> None:
    keys.make()
    with pytest.raises(ConfigurationInvalid, match=r"proof\.key: no public key"):
        read_public(keys.private_path)

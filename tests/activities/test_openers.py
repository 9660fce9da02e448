"""The file of a point that is being written."""

import shutil

import pytest

from activities.openers import Keyring, open_point_file
from holdfast.errors import CredentialMissing, PointNotFound, RepositoryUnavailable
from holdfast.model.ids import CredentialName
from tests.activities.lab import CREDENTIAL, STORE, Lab


def test_the_file_of_a_point_is_found(lab: Lab) -> None:
    point = lab.begun(lab.add_machine()).point
    repository, path = open_point_file(lab.open_repository, STORE, point)
    assert path == lab.chain_file(point)
    assert repository.files.exists(path)


def test_a_file_that_is_gone_is_told_from_a_repository_that_is_gone(lab: Lab) -> None:
    point = lab.begun(lab.add_machine()).point
    lab.chain_file(point).unlink()
    with pytest.raises(PointNotFound, match="is gone"):
        open_point_file(lab.open_repository, STORE, point)
    shutil.rmtree(lab.root / "repository")
    with pytest.raises(RepositoryUnavailable):
        open_point_file(lab.open_repository, STORE, point)


def test_a_keyring_goes_without_what_is_not_there_except_the_credential_that_was_named(lab: Lab) -> None:
    absent, lookup = CredentialName("absent"), lab.credentials.passphrase
    secret = lookup(CREDENTIAL)
    keys = Keyring(lookup, None, (absent, CREDENTIAL, CREDENTIAL))
    assert (keys.first, keys.others, keys.all) == (None, [secret], [None, secret])
    assert (keys.name_of(secret), keys.name_of(None)) == (CREDENTIAL, None)
    assert isinstance(keys.missing, CredentialMissing)
    named = Keyring(lookup, CREDENTIAL, (CREDENTIAL,))
    assert (named.first, named.others, named.missing) == (secret, [], None)
    with pytest.raises(CredentialMissing):
        Keyring(lookup, absent, ())

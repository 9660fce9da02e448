"""A chain is opened with whichever passphrase fits, and says which."""

import pytest

from holdfast.errors import ChainBroken, PassphraseWrong
from holdfast.storage.chains.opening import open_with
from tests.fuzz.damage import SmallChain

SECRET = "correct horse"


@pytest.mark.parametrize(
    "secret, tried",
    [(None, [None]), (None, ["other", None]), (SECRET, [None, "other", SECRET]), (SECRET, [SECRET, None])],
)
def test_the_one_that_fits_opens_the_chain(secret: str | None, tried: list[str | None]) -> None:
    small = SmallChain(7, secret)
    chain, passphrase = open_with(small.repository.files, small.folder, tried)
    with chain:
        assert (passphrase, chain.unreadable) == (secret, [])
        assert chain.points()


@pytest.mark.parametrize("tried", [[], [None], ["other"], [None, "other", "another"]])
def test_without_the_right_one_it_stays_closed(tried: list[str | None]) -> None:
    small = SmallChain(7, SECRET)
    with pytest.raises(PassphraseWrong):
        open_with(small.repository.files, small.folder, tried)


def test_a_chain_that_is_gone_is_no_matter_of_passphrases() -> None:
    small = SmallChain(7, None)
    with pytest.raises(ChainBroken, match="is gone"):
        open_with(small.repository.files, small.folder.with_name("000009-00000000"), [None])

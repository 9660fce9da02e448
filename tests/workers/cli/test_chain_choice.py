"""The chains that a command is about are named by chain, machine or folder."""

import random
from pathlib import Path

import pytest

from holdfast.errors import CredentialMissing, PassphraseWrong, PointNotFound, RequestInvalid
from tests.workers.cli.place import PASSPHRASE, Place
from tests.workers.cli.stored import back_up, back_up_other
from workers.cli.chain_choice import ChosenChain, chosen_chains, found_chain
from workers.cli.invocation import Flags, Invocation

CONTENT = random.Random(1).randbytes(1 << 16)


def run_of(place: Place) -> Invocation:
    return Invocation(Flags(config=place.config, quiet=True))


def test_all_chains_of_the_repository_are_meant_when_nothing_is_named(place: Place) -> None:
    point = back_up(place, 1, CONTENT)
    chosen = chosen_chains(run_of(place), None, None, None, None)
    assert [chain.name for chain in chosen] == [point.chain]
    assert chosen[0].folder == place.repository.chain_folder(point.chain)


@pytest.mark.parametrize("machine", ["web 01", "m1"])
def test_a_machine_is_known_by_name_and_id(place: Place, machine: str) -> None:
    back_up(place, 1, CONTENT)
    assert len(chosen_chains(run_of(place), None, machine, None, None)) == 1


def test_a_machine_without_a_chain_is_refused(place: Place) -> None:
    back_up(place, 1, CONTENT)
    with pytest.raises(PointNotFound, match="other"):
        chosen_chains(run_of(place), None, "other", None, None)


def test_a_chain_that_cannot_be_read_is_of_the_machine_whose_folder_it_is_in(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    point = back_up(place, 1, CONTENT, encrypted=True)
    plain = back_up_other(place, 2, "db")
    for credential in (None, "night"):
        assert [c.name for c in chosen_chains(run_of(place), None, "web 01", None, credential)] == [point.chain]
    capsys.readouterr()
    assert [chain.name for chain in chosen_chains(run_of(place), None, "db", None, None)] == [plain.chain]
    assert point.chain in capsys.readouterr().err


def test_an_unknown_chain_is_refused(place: Place) -> None:
    with pytest.raises(RequestInvalid, match="has no chain"):
        chosen_chains(run_of(place), "machines/a-00000000/000001-00000000", None, None, None)
    with pytest.raises(RequestInvalid, match="not a folder of the repository"):
        chosen_chains(run_of(place), "../../no-such-folder", None, None, None)


def test_a_folder_is_meant_where_no_repository_is_named(place: Place, tmp_path: Path) -> None:
    folder = place.repository.chain_folder(back_up(place, 1, CONTENT).chain)
    assert chosen_chains(run_of(place), str(folder), None, None, None)[0].name == str(folder)
    with pytest.raises(RequestInvalid, match="holds no chain"):
        found_chain(run_of(place), tmp_path, None)
    with pytest.raises(CredentialMissing):
        found_chain(run_of(place), folder, "nobody")


def test_the_passphrase_that_fits_is_found(tmp_path: Path) -> None:
    chain = ChosenChain(name="c", folder=tmp_path, passphrases=("wrong", PASSPHRASE))

    def opens(passphrase: str | None) -> str:
        if passphrase != PASSPHRASE:
            raise PassphraseWrong("no")
        return "open"

    assert chain.with_passphrase(opens) == "open"
    with pytest.raises(PassphraseWrong) as caught:
        ChosenChain(name="c", folder=tmp_path).with_passphrase(opens)
    assert "--credential" in caught.value.hint

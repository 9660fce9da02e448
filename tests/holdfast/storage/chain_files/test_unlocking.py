"""Many threads may open chains at once, with any number of lanes."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from holdfast.errors import PassphraseWrong
from holdfast.formats.keys import ChainKeys, PassphraseCost
from holdfast.storage.chain_files.unlocking import make_encrypted_keys, unlock

COST = PassphraseCost(memory_kib=8 << 10, iterations=2, lanes=4)


@pytest.mark.timeout(60)
def test_many_derivations_at_once_do_not_block_each_other() -> None:
    def make_and_open(number: int) -> tuple[ChainKeys, ChainKeys]:
        chain_id = os.urandom(16)
        made = make_encrypted_keys(chain_id, f"secret {number}", COST)
        return made, unlock(chain_id, made.envelope, f"secret {number}")

    with ThreadPoolExecutor(8) as pool:
        for made, opened in pool.map(make_and_open, range(40)):
            assert made.record_key(bytes(16)) == opened.record_key(bytes(16))


def test_a_wrong_passphrase_lets_the_next_one_in() -> None:
    chain_id = os.urandom(16)
    made = make_encrypted_keys(chain_id, "right", COST)
    with pytest.raises(PassphraseWrong):
        unlock(chain_id, made.envelope, "wrong")
    assert unlock(chain_id, made.envelope, "right").digest_key == made.digest_key

"""Whatever is done to a proof, nothing but our errors comes out, and nothing that was touched is believed."""

import random

from holdfast.errors import HoldfastError
from holdfast.formats.proof import check_signature, decode_proof
from tests.fuzz.explorer import tell
from tests.fuzz.test_mutations import mutations
from tests.holdfast.formats.test_proof import DATA, PUBLIC

ROUNDS = 4000


def test_a_proof_that_was_touched_is_never_believed() -> None:
    seed = 2026
    rng = random.Random(seed)
    believed = refused = 0
    for _ in range(ROUNDS):
        data = mutations(DATA, rng)()
        try:
            check_signature(decode_proof(data), PUBLIC)
        except HoldfastError:
            refused += 1
            continue
        believed += 1
        assert data == DATA, f"seed {seed}"
    tell(f"proofs: {refused} refused, {believed} left as they were")
    assert refused > ROUNDS // 2


def test_a_member_that_was_replaced_is_never_believed() -> None:
    """Text that stays JSON reaches the decoder of the statement and the signature."""
    seed = 2027
    rng = random.Random(seed)
    for _ in range(ROUNDS):
        at = rng.randrange(len(DATA))
        digits = bytes(rng.choice(b'0123456789abcdef",:{}[]') for _ in range(rng.randrange(1, 4)))
        data = DATA[:at] + digits + DATA[at + len(digits) :]
        try:
            check_signature(decode_proof(data), PUBLIC)
        except HoldfastError:
            continue
        assert data == DATA, f"seed {seed}"

"""Opens chain keys with a passphrase, one derivation at a time.

Argon2id runs its lanes on threads of the crypto library, and two derivations at once in one process can wait for each
other for ever (seen with cryptography 50.0 on OpenSSL 4.0). The formats know no threads, so the lock stands here; every
derivation of the product goes through this module.
"""

import os
import threading

from holdfast.formats.keys import (
    ChainKeys,
    KeyEnvelope,
    PassphraseCost,
    new_encrypted_keys,
    open_keys,
)

_one_at_a_time = threading.Lock()
_NEW_KEY_RANDOM = 60


def unlock(chain_id: bytes, envelope: KeyEnvelope, passphrase: str | None) -> ChainKeys:
    """Return the keys of an existing chain. Raises `PassphraseWrong`."""
    with _one_at_a_time:
        return open_keys(chain_id, envelope, passphrase)


def make_encrypted_keys(chain_id: bytes, passphrase: str, cost: PassphraseCost) -> ChainKeys:
    """Return the keys of a new encrypted chain."""
    with _one_at_a_time:
        return new_encrypted_keys(chain_id, passphrase, os.urandom(_NEW_KEY_RANDOM), cost)

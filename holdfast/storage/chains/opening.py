"""Opens a chain whose passphrase is one of several, or none."""

from collections.abc import Iterable
from pathlib import Path

from holdfast.errors import ChainBroken, PassphraseWrong
from holdfast.storage.chains.chain import Chain
from holdfast.storage.files.atomic import Files


def open_with(files: Files, folder: Path, passphrases: Iterable[str | None]) -> tuple[Chain, str | None]:
    """Open a chain with the first passphrase that fits, None for a plain one; return it and the passphrase.

    Raises `ChainBroken` when it is gone, what its files raise, and `PassphraseWrong` when none fits.
    """
    if not files.exists(folder):
        raise ChainBroken(f"chain {folder.name} is gone from {folder.parent}")
    refused = PassphraseWrong(f"chain {folder.name} is encrypted, and no passphrase was given")
    for passphrase in dict.fromkeys(passphrases):
        try:
            return Chain.open(files, folder, passphrase), passphrase
        except PassphraseWrong as error:
            refused = error
    raise refused

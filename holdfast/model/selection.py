"""How people name the machines of a job: one by its id or name, or many by where they are."""

from enum import StrEnum

import msgspec


class SelectorKind(StrEnum):
    """What a reference names."""

    MACHINE = "machine"
    FOLDER = "folder"
    CLUSTER = "cluster"
    POOL = "pool"
    DATASTORE = "datastore"
    TAG = "tag"


class Selector(msgspec.Struct, frozen=True, kw_only=True):
    """One reference, taken apart."""

    kind: SelectorKind
    value: str
    """An id or a name of a machine; else a path or a name of its kind."""

    @property
    def text(self) -> str:
        """The reference as people write it; read again it means the same."""
        return self.value if parse_selector(self.value) == self else f"{self.kind}:{self.value}"


def parse_selector(reference: str) -> Selector:
    """Return what a reference means: ``folder:/prod/web``, ``tag:tier/gold``; without a known kind it is a machine.

    ``machine:`` lets a machine be named whose name begins like a kind.
    """
    word, colon, value = reference.partition(":")
    kind = _KINDS.get(word)
    if kind is None or not colon:
        return Selector(kind=SelectorKind.MACHINE, value=reference)
    return Selector(kind=kind, value=value)


_KINDS = {kind.value: kind for kind in SelectorKind}

"""Lets files be changed that are unchangeable for a locked point, by whoever takes no point away."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from holdfast.storage.chains.chain import chain_file_names
from holdfast.storage.files.atomic import Files
from holdfast.storage.files.immutable import is_immutable, set_immutable


@contextmanager
def changeable(files: Files, folder: Path) -> Iterator[None]:
    """Let the files of a chain be changed meanwhile that were made immutable; those of their names are so again then.

    Files that come by it are made unchangeable by the next retention.
    """
    held = [name for name in chain_file_names(files, folder) if is_immutable(folder / name)]
    for name in held:
        set_immutable(folder / name, wanted=False)
    try:
        yield
    finally:
        for name in held:
            if files.exists(folder / name):
                set_immutable(folder / name, wanted=True)

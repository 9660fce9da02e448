"""Files in memory for tests of what stands on them."""

from pathlib import Path

from holdfast.storage.files.atomic import FileHandle
from holdfast.testing.crashfs import CrashFiles

FOLDER = Path("/chain")


def new_file(files: CrashFiles, name: str = "00000001-full.hfc") -> FileHandle:
    files.make_folder(FOLDER)
    return files.create(FOLDER / name)

"""Calls `qemu-img`, which knows the disk formats of other hypervisors.

It is a program of its own, found on the PATH, and gets absolute paths and explicit formats: nothing is guessed from
the content of a disk, which anybody may have written.
"""

import os
import shutil
import subprocess
from pathlib import Path

from holdfast.errors import DiskWriteFailed, RestoredBytesDiffer, ToolMissing

_LINE_CHARACTERS_MAX = 400
_DIFFERENT = 1
"""Exit status of a comparison whose sides differ."""


class QemuImg:
    """The program, ready to be called. The constructor raises `ToolMissing` when it is not there."""

    def __init__(self) -> None:
        found = shutil.which("qemu-img")
        if found is None:
            hint = "Install it, such as with `apt install qemu-utils`, or export the disk as raw."
            raise ToolMissing("qemu-img is not on the PATH", hint=hint)
        self._program = found

    def convert(self, raw: Path, target: Path, kind: str, options: str = "") -> None:
        """Write a raw disk as another file, which is made or overwritten and not flushed. Raises `DiskWriteFailed`."""
        more = ["-o", options] if options else []
        status, words = self._call("convert", "-f", "raw", "-O", kind, *more, str(raw), str(target))
        if status:
            raise DiskWriteFailed(f"qemu-img writes no {kind} to {target}: {words}")

    def compare(self, raw: Path, other: Path, kind: str) -> None:
        """Read both files and compare every byte. Raises `RestoredBytesDiffer`, or `DiskWriteFailed` if it cannot."""
        status, words = self._call("compare", "-f", "raw", "-F", kind, str(raw), str(other))
        if status == _DIFFERENT:
            raise RestoredBytesDiffer(f"{other} differs from the restore point: {words}")
        if status:
            raise DiskWriteFailed(f"qemu-img cannot read {other} back: {words}")

    def _call(self, *words: str) -> tuple[int, str]:
        """Run the program to its end and return its exit status and last words. An interrupt ends it."""
        done = subprocess.run(
            [self._program, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={"PATH": os.defpath, "LC_ALL": "C.UTF-8"},
            start_new_session=True,  # an interrupt of the terminal is for us; leaving here ends the program
            check=False,
        )
        lines = done.stdout.decode("utf-8", "replace").strip().splitlines()
        return done.returncode, lines[-1][:_LINE_CHARACTERS_MAX] if lines else f"it ended with {done.returncode}"

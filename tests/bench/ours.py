"""The engine on one repository, each operation in a process of its own."""

import shutil
from pathlib import Path

import msgspec

from tests.bench.child import Request, Result
from tests.bench.measure import Measured, run_child, settle, warm_up
from tests.bench.peers import PASSPHRASE


class Ours:
    """One repository and one restore target below a folder."""

    name = "holdfast"

    def __init__(self, work: Path, passphrase: str | None = PASSPHRASE) -> None:
        self.repository = work / "ours"
        self.target = work / "ours.raw"
        self._passphrase = passphrase

    def request(self, operation: str, session: str = "", image: Path | None = None) -> Request:
        """Return what to ask of a child process."""
        return Request(
            operation=operation,
            repository=str(self.repository),
            session=session,
            image="" if image is None else str(image),
            target=str(self.target),
            passphrase=self._passphrase,
        )

    def full(self, image: Path) -> tuple[Measured, Result]:
        """Make a repository with one full."""
        self.clean()
        warm_up(image)
        return run_child(self.request("backup", "full", image))

    def increment(self, session: str, image: Path, spans_file: str | None = None) -> tuple[Measured, Result]:
        """Add an increment, with known changes or by comparing every piece."""
        warm_up(image)
        return run_child(msgspec.structs.replace(self.request("backup", session, image), spans=spans_file))

    def restore(self, *, compare: bool = False) -> tuple[Measured, Result]:
        """Restore the newest point to a new sparse file."""
        self.target.unlink(missing_ok=True)
        settle()
        return run_child(msgspec.structs.replace(self.request("restore"), compare=compare))

    def bare(self, image: Path) -> Measured:
        """Do only what no engine can leave out."""
        warm_up(image)
        return run_child(self.request("bare", image=image))[0]

    def verify(self) -> tuple[Measured, Result]:
        """Check every stored byte."""
        settle()
        return run_child(self.request("verify"))

    def scrub(self, *, deep: bool = False) -> tuple[Measured, Result]:
        """Read every stored byte again, decoded or compared with its checksum alone."""
        settle()
        return run_child(msgspec.structs.replace(self.request("scrub"), compare=deep))

    def stored_bytes(self) -> int:
        """Return what all chain files take."""
        return sum(file.stat().st_size for file in self.repository.rglob("*.hfc"))

    def clean(self) -> None:
        """Remove what was written."""
        shutil.rmtree(self.repository, ignore_errors=True)
        self.target.unlink(missing_ok=True)

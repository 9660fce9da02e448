"""The tools to compare with, on the same image: zstd as the floor of the work, borg and restic as peers."""

import shutil
from pathlib import Path

from tests.bench.host import is_installed
from tests.bench.measure import Measured, run, settle, warm_up

PASSPHRASE = "correct horse battery staple"


def folder_bytes(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


class Zstd:
    """`zstd -1 -T2`: no deduplication, no encryption, no sync, no check."""

    name = "zstd -1 -T2"
    is_installed = is_installed("zstd")

    def __init__(self, work: Path) -> None:
        self._packed = work / "peer.zst"
        self._target = work / "peer.raw"

    def full(self, image: Path) -> tuple[Measured, int]:
        """Pack the image; return the run and the bytes stored."""
        self._packed.unlink(missing_ok=True)
        warm_up(image)
        measured = run(["zstd", "-1", "-T2", "--quiet", "--force", str(image), "-o", str(self._packed)])
        return measured, self._packed.stat().st_size

    def restore(self) -> Measured:
        """Unpack to a sparse file."""
        self._target.unlink(missing_ok=True)
        warm_up(self._packed)
        return run(["zstd", "-d", "--quiet", "--sparse", str(self._packed), "-o", str(self._target)])

    def clean(self) -> None:
        """Remove what was written."""
        self._packed.unlink(missing_ok=True)
        self._target.unlink(missing_ok=True)


class Borg:
    """borg with fixed blocks of 1 MiB, zstd 1, sparse input, encryption with BLAKE2."""

    name = "borg fixed 1 MiB"
    is_installed = is_installed("borg")

    def __init__(self, work: Path) -> None:
        self._folder = work / "borg"
        self._repository = str(self._folder / "repository")
        self._environment = {
            "BORG_PASSPHRASE": PASSPHRASE,
            "BORG_BASE_DIR": str(self._folder),
            "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes",
        }

    def full(self, image: Path) -> tuple[Measured, int]:
        """Make a repository with one archive; return the run and the bytes stored."""
        self.clean()
        self._folder.mkdir()
        warm_up(image)
        run(["borg", "init", "-e", "repokey-blake2", self._repository], environment=self._environment)
        return self._create("0", image)

    def increment(self, image: Path) -> tuple[Measured, int]:
        """Add an archive of the changed image; return the run and the bytes added."""
        before = folder_bytes(Path(self._repository))
        warm_up(image)
        measured, after = self._create("1", image)
        return measured, after - before

    def restore(self) -> Measured:
        """Extract the first archive, sparse."""
        target = self._folder / "restored"
        target.mkdir()
        settle()
        command = ["borg", "extract", "--sparse", f"{self._repository}::0"]
        measured = run(command, environment=self._environment, folder=target)
        shutil.rmtree(target)
        return measured

    def clean(self) -> None:
        """Remove what was written."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _create(self, name: str, image: Path) -> tuple[Measured, int]:
        options = ["--chunker-params", "fixed,1048576", "-C", "zstd,1", "--sparse"]
        command = ["borg", "create", *options, f"{self._repository}::{name}", image.name]
        measured = run(command, environment=self._environment, folder=image.parent)
        return measured, folder_bytes(Path(self._repository))


class Restic:
    """restic as it comes: content-defined blocks, its default zstd level, encryption."""

    name = "restic"
    is_installed = is_installed("restic")

    def __init__(self, work: Path) -> None:
        self._folder = work / "restic"
        self._environment = {"RESTIC_PASSWORD": PASSPHRASE, "RESTIC_CACHE_DIR": str(self._folder / "cache")}
        self._repository = self._folder / "repository"

    def full(self, image: Path) -> tuple[Measured, int]:
        """Make a repository with one snapshot; return the run and the bytes stored."""
        self.clean()
        self._folder.mkdir()
        warm_up(image)
        self._run("init", "--repository-version", "2")
        measured = self._run("backup", str(image))
        return measured, folder_bytes(self._repository)

    def increment(self, image: Path) -> tuple[Measured, int]:
        """Add a snapshot of the changed image; return the run and the bytes added."""
        before = folder_bytes(self._repository)
        warm_up(image)
        measured = self._run("backup", str(image))
        return measured, folder_bytes(self._repository) - before

    def restore(self) -> Measured:
        """Restore the latest snapshot."""
        settle()
        return self._run("restore", "latest", "--target", str(self._folder / "restored"))

    def clean(self) -> None:
        """Remove what was written."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, *arguments: str) -> Measured:
        return run(["restic", "--quiet", "--repo", str(self._repository), *arguments], environment=self._environment)

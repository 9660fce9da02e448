"""Pin every dependency with hashes in requirements/, from the ranges in pyproject.toml.

Usage: .venv/bin/python scripts/lock.py [--upgrade]

One file per need, so that a worker installs `runtime.txt` and no test tool.
All are cut from a single resolution and therefore agree with each other; that resolution holds for
every supported Python and processor.
Without `--upgrade` present pins are kept, and only what pyproject.toml adds or no longer allows
changes.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements"
HEADER = "# Written by `make lock` from pyproject.toml; do not edit.\n"

GROUPS = ("build", "dev", "lab", "bench", "lock")
EXTRAS = ("vsphere", "postgres", "otlp")


def main(arguments: list[str]) -> int:
    """Write all files of requirements/; 0 on success, the resolver's own status when it fails."""
    with tempfile.TemporaryDirectory() as folder:
        everything = Path(folder) / "everything.txt"
        if "--upgrade" not in arguments:
            present = sorted(REQUIREMENTS.glob("*.txt"))
            everything.write_text("".join(pins(file) for file in present))
        try:
            resolve(everything, ["pyproject.toml", "--all-extras", *group_options(GROUPS)])
            for name, selection in selections().items():
                # The resolver keeps pins found in its output: each cut agrees with the whole.
                cut = Path(folder) / f"{name}.txt"
                cut.write_text(everything.read_text())
                resolve(cut, selection)
                write(name, cut.read_text())
        except subprocess.CalledProcessError as error:
            return int(error.returncode)
    return 0


def selections() -> dict[str, list[str]]:
    """Return what each file holds, as arguments of the resolver."""
    chosen = {"runtime": ["pyproject.toml"]}
    chosen |= {extra: ["pyproject.toml", "--extra", extra] for extra in EXTRAS}
    return chosen | {group: group_options((group,)) for group in GROUPS}


def group_options(groups: tuple[str, ...]) -> list[str]:
    """Return the arguments that select dependency groups."""
    return [argument for group in groups for argument in ("--group", group)]


def resolve(output: Path, selection: list[str]) -> None:
    """Resolve a selection into output; raises CalledProcessError when there is no solution."""
    options = [
        "--universal",
        "--generate-hashes",
        "--no-header",
        "--no-annotate",
        "--no-emit-index-url",
        "--no-emit-find-links",
        "--quiet",
        f"--output-file={output}",
    ]
    command = [sys.executable, "-m", "uv", "pip", "compile", *selection, *options]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def write(name: str, pinned: str) -> None:
    """Write one file of requirements/ and say how many packages it pins."""
    (REQUIREMENTS / f"{name}.txt").write_text(HEADER + pinned)
    print(f"requirements/{name}.txt: {pinned.count('==')} packages")


def pins(file: Path) -> str:
    """Return the pins of a file without their hashes, as a preference for the resolver."""
    lines = file.read_text().splitlines()
    pinned = (line.removesuffix("\\").strip() for line in lines if line[:1].isalnum())
    return "".join(f"{pin}\n" for pin in pinned)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Make .venv ready for a profile: pinned, hash-checked packages, then this project, editable.

Usage: python3 scripts/environment.py PROFILE

The Makefile runs this with the Python of the machine, so only the standard library is used.

A stamp file per profile holds a digest of everything the set-up depends on; while it matches, the
set-up ends at once.
The set-up runs under a file lock: of two at once the second waits, finds the stamp fresh and has
nothing to do.
The stamp is written last, so an interrupted set-up is simply done again.
"""

import contextlib
import fcntl
import hashlib
import importlib.util
import json
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
LOCK = ROOT / ".venv.lock"  # beside the folder, because making the folder anew empties it

# Which files of requirements/ a profile installs; `build` holds what builds the project itself.
PROFILES = {
    "demo": ("build", "runtime", "vsphere", "lab"),
    "dev": ("build", "runtime", "vsphere", "postgres", "otlp", "lab", "bench", "dev"),
    "lock": ("build", "runtime", "lock"),
}


class SetupError(Exception):
    """The machine lacks something; the message says what to do about it."""


def main(arguments: list[str]) -> int:
    """Set up the profile named on the command line; 0 on success, 1 with a message otherwise."""
    if len(arguments) != 1 or arguments[0] not in PROFILES:
        print(f"usage: environment.py {{{'|'.join(PROFILES)}}}", file=sys.stderr)
        return 2
    try:
        with locked():
            ensure(arguments[0])
    except SetupError as error:
        print(f"set-up: {error}", file=sys.stderr)
        return 1
    return 0


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """Hold the set-up lock; say so when another process has it."""
    with LOCK.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("set-up: another set-up is running, waiting for it", flush=True)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def ensure(profile: str) -> None:
    """Bring .venv to the state the profile asks for; do nothing when it is there already."""
    stamp = VENV / f".ready-{profile}"
    expected = digest(profile)
    if stamp.is_file() and stamp.read_text() == expected:
        return
    if not is_usable():
        create()
    stamp.unlink(missing_ok=True)
    install(profile)
    stamp.write_text(expected)


def digest(profile: str) -> str:
    """Digest of all that decides what the profile installs; tool settings are not part of it."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    # The folder is part of it: programs in .venv name it, so a copied tree needs its own.
    facts = [str(VENV), settings["project"], settings["tool"]["hatch"]]
    state = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    state.update(Path(__file__).read_bytes())
    for file in requirement_files(profile):
        state.update(file.read_bytes())
    return state.hexdigest()


def requirement_files(profile: str) -> list[Path]:
    """Return the pinned files of a profile in the order of installation."""
    return [ROOT / "requirements" / f"{name}.txt" for name in PROFILES[profile]]


def is_usable() -> bool:
    """Tell whether .venv runs and was made here; a copied one would run the original's programs."""
    settings = VENV / "pyvenv.cfg"
    if not settings.is_file():
        return False
    made_as = [line for line in settings.read_text().splitlines() if line.startswith("command = ")]
    if made_as and not made_as[0].endswith(f" {VENV}"):
        return False
    try:
        probe = [python(), "-I", "-m", "pip", "--version"]
        return subprocess.run(probe, capture_output=True, check=False).returncode == 0
    except OSError:  # the interpreter it was made with is gone
        return False


def create() -> None:
    """Make .venv from nothing with the Python that runs this."""
    if importlib.util.find_spec("ensurepip") is None or importlib.util.find_spec("venv") is None:
        raise SetupError(
            f"{sys.executable} lacks the ensurepip or venv module and cannot make .venv; "
            "on Debian and Ubuntu run: apt-get install python3-venv"
        )
    print(f"set-up: making .venv with {sys.executable}", flush=True)
    shutil.rmtree(VENV, ignore_errors=True)
    run([sys.executable, "-m", "venv", str(VENV)], "the virtual environment could not be made")


def install(profile: str) -> None:
    """Install the pinned packages of the profile, then the project itself."""
    print(f"set-up: installing pinned packages for '{profile}'", flush=True)
    # Wheels only: nothing is compiled here, and nothing is fetched that the hashes do not cover.
    pinned = ["install", "--require-hashes", "--only-binary", ":all:"]
    for file in requirement_files(profile):
        pinned += ["--requirement", str(file)]
    pip(pinned)
    pip(["install", "--no-deps", "--no-build-isolation", "--editable", str(ROOT)])


def pip(arguments: list[str]) -> None:
    """Run the pip of .venv, apart from the user's own Python settings."""
    quiet = ["--quiet", "--disable-pip-version-check", "--no-input"]
    run([python(), "-I", "-m", "pip", *arguments, *quiet], "pip failed, see its message above")


def python() -> str:
    """Return the interpreter of .venv."""
    return str(VENV / "bin" / "python")


def run(command: list[str], failure: str) -> None:
    """Run a command with its output shown; raise SetupError with the given words when it fails."""
    if subprocess.run(command, cwd=ROOT, check=False).returncode != 0:
        raise SetupError(failure)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

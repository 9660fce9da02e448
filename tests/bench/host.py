"""Facts about the machine that figures are worthless without."""

import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import blake3
import cryptography
import lz4
import zstandard

from holdfast.testing.images import find_program

PEERS = {
    "zstd": ("--version",),
    "borg": ("--version",),
    "restic": ("version",),
}
LIBRARIES = {
    "zstandard": zstandard.__version__,
    "cryptography": cryptography.__version__,
    "blake3": blake3.__version__,
    "lz4": lz4.__version__,
}


def machine_facts(work: Path) -> dict[str, str]:
    """Return name and value of each fact."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": f"{os.cpu_count()} x {_field('/proc/cpuinfo', 'model name')}",
        "memory": f"{memory / 2**30:.0f} GiB",
        "file system": _command("df", ["--output=fstype", str(work)]).split()[-1],
        "kernel": platform.release(),
        "Python": platform.python_version(),
        "libraries": ", ".join(f"{name} {version}" for name, version in LIBRARIES.items()),
        "peers": ", ".join(_peer(name) for name in PEERS),
    }


def is_installed(name: str) -> bool:
    """Return whether a peer can be compared with."""
    return shutil.which(name) is not None


def load_average() -> float:
    """Return how many processes wanted to run in the last minute."""
    return os.getloadavg()[0]


def _peer(name: str) -> str:
    if not is_installed(name):
        return f"{name} is not installed"
    words = _command(name, PEERS[name]).replace("*", "").replace(",", "").split()
    version = next((word for word in words if word.lstrip("v")[:1].isdigit()), "?")
    return f"{name} {version.lstrip('v')}"


def _command(name: str, arguments: Sequence[str]) -> str:
    return subprocess.run([find_program(name), *arguments], capture_output=True, text=True, check=True).stdout.strip()


def _field(path: str, name: str) -> str:
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        if line.startswith(name):
            return line.split(":", 1)[1].strip()
    return "unknown"

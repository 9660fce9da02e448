"""What of nbdkit is installed here: program, plugin, and the vendor's library behind the plugin."""

import re
import subprocess
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from holdfast.errors import ProviderUnavailable, ToolMissing
from holdfast.providers.nbd.server import find_nbdkit

_PATIENCE_S: Final = 30.0
_LINE: Final = re.compile(r"^([a-z0-9_]+)=(.*)$", re.MULTILINE)


class NbdkitFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What would serve disks."""

    program: str
    """Path of nbdkit."""
    version: str
    plugin: str
    plugin_version: str
    library: str = ""
    """Version of the library that the plugin loads; empty when it tells none."""


def nbdkit_facts(plugin: Sequence[str], parameters: Mapping[str, str] | None = None) -> NbdkitFacts:
    """Load a plugin without serving anything, and return what there is.

    Raises `ToolMissing` when nbdkit or the plugin is not installed, `ProviderUnavailable` when either does not answer.
    """
    program = find_nbdkit()
    version = _said([program, "--version"]).partition(" ")[2].strip()
    given = [f"{name}={value}" for name, value in (parameters or {}).items()]
    told = dict(_LINE.findall(_said([program, *plugin, "--dump-plugin", *given])))
    return NbdkitFacts(
        program=program,
        version=version or "of unknown version",
        plugin=told.get("name", plugin[0]),
        plugin_version=told.get("version", "of unknown version"),
        library=told.get("vddk_library_version", ""),
    )


def _said(command: list[str]) -> str:
    what = " ".join(command[:2])
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ProviderUnavailable(f"{what} does not answer: {error}") from error
    if done.returncode:
        words = done.stderr.strip().splitlines()
        told = words[0].removeprefix("nbdkit: ").removeprefix("error: ") if words else "it says nothing"
        if "cannot open plugin" in told:
            raise ToolMissing(
                f"{what}: {told}", hint="Install the plugin on the proxy, or name another in the settings."
            )
        raise ProviderUnavailable(f"{what}: {told}")
    return done.stdout

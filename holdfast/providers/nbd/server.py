"""An nbdkit process of our own that serves one disk to this process alone.

It listens on a Unix socket in a folder only we may enter, gets secrets by file and never by command line, and ends with
us: by `NbdServer.stop`, or by itself when this process dies.
"""

import re
import shutil
import signal
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec
from typing_extensions import override

from holdfast.clock import Clock, SystemClock
from holdfast.errors import HoldfastError, ProviderUnavailable, RequestInvalid, ToolMissing
from holdfast.providers.nbd.child import Child
from holdfast.providers.nbd.wire import Export

START_DEADLINE_S: Final = 30.0
STOP_DEADLINE_S: Final = 10.0
_POLL_S: Final = 0.005
_SYSTEM_FOLDERS: Final = "/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin"
_PACKAGES: Final = {
    "python": "nbdkit-plugin-python",
    "vddk": "nbdkit-plugin-vddk (Debian 13 and newer, section contrib)",
}
"""Debian's packages of plugins that `nbdkit` itself does not contain."""


class ServerPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What nbdkit shall serve."""

    plugin: tuple[str, ...]
    """Name of the plugin, and for scripts their path: ``("python", "/path/of/script.py")``."""
    parameters: Mapping[str, str] = {}
    """Of plugin and filters; everybody on the host may read them."""
    secrets: Mapping[str, str] = msgspec.field(default_factory=dict)
    """Parameters that are handed over as ``name=+FILE``; one line each."""
    is_read_only: bool = True
    filters: tuple[str, ...] = ()
    """The outermost first."""
    timeout_s: float = 60.0
    """How long the server may be silent in the middle of a request."""

    @override
    def __repr__(self) -> str:
        """Show everything but the secrets."""
        return f"ServerPlan({' '.join(self.plugin)}, {dict(self.parameters)}, secrets={sorted(self.secrets)})"


class NbdServer:
    """One nbdkit process. Start and stop it once, or use it as a context."""

    def __init__(self, plan: ServerPlan, *, clock: Clock | None = None) -> None:
        self._plan = plan
        self._clock = clock if clock is not None else SystemClock()
        self._folder: Path | None = None
        self._child: Child | None = None

    @property
    def socket_path(self) -> Path:
        """Where the running server listens."""
        assert self._folder is not None, "the server runs"
        return self._folder / "socket"

    @property
    def export(self) -> Export:
        """Where the running server's disk is."""
        return Export(address=self.socket_path, timeout_s=self._plan.timeout_s)

    @property
    def pid(self) -> int | None:
        """Id of the process; None when none runs."""
        return self._child.pid if self._child is not None and self._child.is_alive else None

    def start(self) -> None:
        """Return once the server accepts connections.

        Raises ToolMissing when nbdkit, the plugin or a filter is not installed, RequestInvalid for what cannot be
        handed over to it, ProviderUnavailable with nbdkit's own words when it does not serve within half a minute.
        """
        assert self._folder is None, "a server is started once"
        program = find_nbdkit()
        _check(self._plan)
        try:
            self._run(program)
        except OSError as error:
            self.stop()
            raise ProviderUnavailable(f"nbdkit cannot be started: {error}") from error
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the process, by force after ten seconds, and remove its folder. Idempotent.

        Raises ProviderUnavailable when even killing does not end it.
        """
        child = self._child
        if child is not None and not child.end(signal.SIGTERM, STOP_DEADLINE_S):
            child.end(signal.SIGKILL, STOP_DEADLINE_S)
        if self._folder is not None and self._folder.exists():
            shutil.rmtree(self._folder)
        if child is not None and child.is_alive:
            raise ProviderUnavailable(f"nbdkit process {child.pid} does not end, not even when killed")

    def last_words(self) -> str:
        """Return what nbdkit complained about last, in one line; empty when it did not."""
        return "" if self._child is None else "; ".join(_without_prefix(line) for line in self._child.last_lines())

    def __enter__(self) -> Self:
        """Start the server."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the server."""
        self.stop()

    def _run(self, program: str) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="holdfast-nbd-"))
        secrets = [self._hand_over(name, value) for name, value in self._plan.secrets.items()]
        self._child = Child([program, *self._arguments(), *secrets])
        self._wait_until_it_accepts(self._child)
        # Whoever reads them has read them: nothing secret stays in a file.
        for file in self._folder.glob("secret-*"):
            file.unlink()

    def _arguments(self) -> list[str]:
        assert self._folder is not None
        plan = self._plan
        return [
            "--foreground",
            "--exit-with-parent",
            f"--unix={self.socket_path}",
            f"--pidfile={self._folder / 'pid'}",
            *(["--readonly"] if plan.is_read_only else []),
            *(f"--filter={name}" for name in plan.filters),
            *plan.plugin,
            *(f"{name}={value}" for name, value in plan.parameters.items()),
        ]

    def _hand_over(self, name: str, value: str) -> str:
        assert self._folder is not None
        file = self._folder / f"secret-{name}"
        file.touch(mode=0o600, exist_ok=False)
        file.write_text(value + "\n", "utf-8")
        return f"{name}=+{file}"

    def _wait_until_it_accepts(self, child: Child) -> None:
        """Wait for the file with the process id, which nbdkit writes when it listens."""
        assert self._folder is not None
        deadline_s = self._clock.monotonic_s() + START_DEADLINE_S
        while not (self._folder / "pid").exists():
            if child.wait(_POLL_S):
                raise self._refusal()
            if self._clock.monotonic_s() > deadline_s:
                words = self.last_words() or "it says nothing"
                raise ProviderUnavailable(f"nbdkit does not serve within {START_DEADLINE_S:g} s: {words}")

    def _refusal(self) -> HoldfastError:
        """Return why nbdkit ended before it served."""
        words = self.last_words()
        what = " ".join(self._plan.plugin)
        missing = re.search(r"cannot open (?:plugin|filter) '([^']+)'", words)
        if missing is not None:
            package = _PACKAGES.get(missing.group(1), "nbdkit")
            hint = f"Install it on the proxy; on Debian the package is {package}."
            return ToolMissing(f"nbdkit cannot load {what}: {words}", hint=hint)
        return ProviderUnavailable(f"nbdkit cannot serve {what}: {words or 'it ended without a word'}")


def find_nbdkit() -> str:
    """Return the path of nbdkit. Raises ToolMissing."""
    found = shutil.which("nbdkit") or shutil.which("nbdkit", path=_SYSTEM_FOLDERS)
    if found is not None:
        return found
    raise ToolMissing(
        "the program `nbdkit` is not installed",
        hint="Install it on the proxy; on Debian the packages are nbdkit and nbdkit-plugin-python.",
    )


def _check(plan: ServerPlan) -> None:
    if any("\0" in text for text in (*plan.plugin, *plan.filters, *plan.parameters, *plan.parameters.values())):
        raise RequestInvalid(f"{plan!r} has a NUL, which no command line can hold")
    for name, value in plan.secrets.items():
        if not re.fullmatch(r"[a-z][a-z0-9_-]*", name):
            raise RequestInvalid(f"{name!r} is no name of a parameter of nbdkit")
        if re.search(r"[\n\r\0]", value):
            raise RequestInvalid(f"the value of {name} is not one line, which is all that nbdkit can read")


def _without_prefix(line: str) -> str:
    return line.removeprefix("nbdkit: ").replace(": error: ", ": ").removeprefix("error: ")

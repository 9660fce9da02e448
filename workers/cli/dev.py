"""``holdfast dev``: Temporal's development server for trying things out on one host."""

import signal
import threading
from types import FrameType
from typing import Annotated

import typer

from holdfast.errors import ConfigurationInvalid
from workers.cli.commands import RUN, alone, command, family
from workers.cli.invocation import Invocation
from workers.devserver import DevServer, DevServerAddress, DevServerSettings, DevServerStatus
from workers.loopback import LOOPBACK

UI_PORT = 8233
_LOCAL_HOSTS = frozenset({LOOPBACK, "localhost"})

UiPortOption = Annotated[
    int, typer.Option("--ui-port", min=0, max=65535, help="Port of the web pages; 0 for a free one.")
]
HeadlessOption = Annotated[bool, typer.Option("--headless", help="Serve no web pages.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    members = family(app, "dev", panel=RUN, help_line="Temporal's development server on this host.")
    alone(
        members,
        examples=(
            ("dev", "serve in the foreground until interrupted"),
            ("dev start", "serve in the background"),
            ("dev status --json", "where it listens"),
        ),
    )(foreground)
    command(members, "start")(start)
    command(members, "stop")(stop)
    command(members, "status")(status)


def foreground(run: Invocation, *, ui_port: UiPortOption = UI_PORT, headless: HeadlessOption = False) -> None:
    """Run Temporal's development server until interrupted.

    It listens where the configuration says Temporal is, and keeps its database below the home folder, so that what
    ran before is still there. One process and one file: for production see docs/operating/temporal-cluster.md.
    """
    server = _server(run, ui_port, headless=headless)
    stopped = threading.Event()

    def stop_serving(_number: int, _frame: FrameType | None) -> None:
        stopped.set()

    handlers = {number: signal.signal(number, stop_serving) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        address = server.start()
        run.say(f"{_where(address)}; interrupt to stop")
        server.run_until(stopped)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    run.show({"state": "stopped", "address": address}, "the development server has stopped")


def start(run: Invocation, *, ui_port: UiPortOption = UI_PORT, headless: HeadlessOption = False) -> None:
    """Start the development server in the background; one that runs already is taken as it is."""
    address = _server(run, ui_port, headless=headless).start()
    run.show({"state": "running", "address": address}, _where(address))


def stop(run: Invocation) -> None:
    """Stop the development server. Sessions go on when it is started again."""
    was_running = DevServer(run.settings.dev_server_folder).stop()
    text = "the development server has stopped" if was_running else "no development server was running"
    run.show({"state": "stopped", "was_running": was_running}, text)


def status(run: Invocation) -> None:
    """Show whether the development server runs, and where."""
    found = DevServer(run.settings.dev_server_folder).status()
    run.show(found, _described(found))


def _server(run: Invocation, ui_port: int, *, headless: bool) -> DevServer:
    temporal = run.settings.temporal
    host, _, port = temporal.address.rpartition(":")
    if host not in _LOCAL_HOSTS or not port.isdigit():
        hint = f"Set temporal.address to {LOOPBACK}:7233, or use the server that is there."
        raise ConfigurationInvalid(
            f"the configuration has Temporal at {temporal.address}, which is not this host", hint=hint
        )
    folder = run.settings.dev_server_folder
    running = DevServer(folder).status()
    if running.pid is not None and running.address is not None:
        # Whoever asks for no web port in particular takes the server as it is.
        ui_port, headless = 0, running.address.ui is None
    settings = DevServerSettings(
        namespace=temporal.namespace, grpc_port=int(port), ui_port=0 if headless else ui_port, is_headless=headless
    )
    return DevServer(folder, settings, clock=run.clock)


def _where(address: DevServerAddress) -> str:
    pages = f", web pages at {address.ui}" if address.ui else ""
    return f"Temporal listens at {address.grpc}, namespace {address.namespace}{pages}"


def _described(found: DevServerStatus) -> str:
    if found.pid is None or found.address is None:
        return "the development server does not run"
    return f"{found.state}, process {found.pid}: {_where(found.address)}; log {found.log}"

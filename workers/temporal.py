"""The connection to Temporal, and the one plugin every client, worker, test and replayer uses.

The plugin carries the data converter and codec (`workers.payloads`), tracing, the sandbox's
pass-through list and the rule that an error of ours raised by a workflow fails it. A replayer
without it would decode histories differently.
"""

import asyncio
import base64
import binascii
import dataclasses
from pathlib import Path
from typing import Final

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.contrib.opentelemetry import OpenTelemetryInterceptor
from temporalio.plugin import SimplePlugin
from temporalio.service import RPCError, RPCStatusCode, TLSConfig
from temporalio.worker import WorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from holdfast.errors import (
    ConfigurationInvalid,
    CredentialMissing,
    HoldfastError,
    ServerUnavailable,
)
from workers.payloads import Keyring, data_converter
from workers.telemetry import Telemetry, start_telemetry
from workers.temporal_settings import PayloadKeyFile, TemporalSettings, TlsFiles

PASSED_THROUGH: Final = (
    "activities.contracts",
    "holdfast",
    "msgspec",
    "opentelemetry",
    "workflows.messages",
    "workflows.options",
    "workflows.queues",
    "workflows.search_attributes",
    "workflows.undo",
)
"""Modules the sandbox takes as they are: guarded by import contracts, costly to import per run."""

_RETRY_PAUSE_S: Final = 0.2


def project_plugin(keyring: Keyring | None = None, *, has_tracing: bool = False) -> SimplePlugin:
    """Return the project's plugin, for clients and replayers; workers inherit it from their client.

    ``has_tracing`` needs the global tracer provider that `workers.telemetry` sets.
    """
    return SimplePlugin(
        "holdfast",
        data_converter=data_converter(keyring),
        interceptors=[OpenTelemetryInterceptor(add_temporal_spans=True)] if has_tracing else [],
        workflow_runner=_with_pass_through,
        workflow_failure_exception_types=[HoldfastError],
    )


async def connect(settings: TemporalSettings, *, telemetry: Telemetry | None = None) -> Client:
    """Return a client of a namespace that exists.

    A server that does not answer is tried again until ``connect_timeout_s`` has passed; then
    ServerUnavailable is raised. Raises ConfigurationInvalid when the namespace is missing or access
    is refused, CredentialMissing when a file that the settings name is not there. ``telemetry``
    None takes that of the process.
    """
    observed = telemetry if telemetry is not None else start_telemetry()
    plugin = project_plugin(load_keyring(settings), has_tracing=observed.has_tracing)
    tls = _tls_config(settings.tls)
    api_key = _text(settings.api_key_file) if settings.api_key_file is not None else None
    failure: BaseException | None = None
    try:
        async with asyncio.timeout(settings.connect_timeout_s):
            while True:
                try:
                    client = await Client.connect(
                        settings.address,
                        namespace=settings.namespace,
                        tls=tls,
                        api_key=api_key,
                        plugins=[plugin],
                        runtime=observed.runtime,
                    )
                    await _require_namespace(client, settings)
                except (RuntimeError, RPCError) as error:
                    failure = error
                else:
                    return client
                await asyncio.sleep(_RETRY_PAUSE_S)
    except TimeoutError:
        reason = str(failure) if failure is not None else "no answer"
        waited = f"{settings.connect_timeout_s:g} s"
        message = f"no Temporal server at {settings.address} within {waited}: {reason}"
        raise ServerUnavailable(message) from failure


def load_keyring(settings: TemporalSettings) -> Keyring | None:
    """Return the payload keys of the settings, None when there are none.

    Raises CredentialMissing for a missing file, ConfigurationInvalid for one that others may read
    or that holds no key.
    """
    keys: dict[str, bytes] = {}
    for entry in settings.payload_keys:
        if entry.key_id in keys:
            message = f"payload key {entry.key_id} is listed twice"
            raise ConfigurationInvalid(message)
        keys[entry.key_id] = _key_bytes(entry)
    return Keyring(keys) if keys else None


def _with_pass_through(runner: WorkflowRunner | None) -> WorkflowRunner:
    if runner is None:
        runner = SandboxedWorkflowRunner()
    if not isinstance(runner, SandboxedWorkflowRunner):
        return runner
    restrictions = runner.restrictions.with_passthrough_modules(*PASSED_THROUGH)
    return dataclasses.replace(runner, restrictions=restrictions)


async def _require_namespace(client: Client, settings: TemporalSettings) -> None:
    request = DescribeNamespaceRequest(namespace=settings.namespace)
    try:
        await client.workflow_service.describe_namespace(request, retry=False)
    except RPCError as error:
        where = f"namespace {settings.namespace} at {settings.address}"
        match error.status:
            case RPCStatusCode.NOT_FOUND:
                message = f"no {where}"
                hint = "Create it as docs/operating/temporal-cluster.md says, or correct its name."
                raise ConfigurationInvalid(message, hint=hint) from error
            case RPCStatusCode.PERMISSION_DENIED | RPCStatusCode.UNAUTHENTICATED:
                message = f"access to {where} is refused: {error}"
                hint = "Check the certificate or API key and what it may do in this namespace."
                raise ConfigurationInvalid(message, hint=hint) from error
            case _:
                raise


def _tls_config(files: TlsFiles | None) -> TLSConfig | bool:
    if files is None:
        return False
    if (files.certificate is None) != (files.key is None):
        message = "temporal.tls needs certificate and key together"
        raise ConfigurationInvalid(message)
    return TLSConfig(
        server_root_ca_cert=_optional_bytes(files.server_ca),
        client_cert=_optional_bytes(files.certificate),
        client_private_key=_optional_bytes(files.key),
        domain=files.server_name,
    )


def _key_bytes(entry: PayloadKeyFile) -> bytes:
    text = _text(entry.file)
    if Path(entry.file).stat().st_mode & 0o007:
        message = f"payload key file {entry.file} may be read by everybody"
        raise ConfigurationInvalid(message, hint="Take the access of others away (chmod o= FILE).")
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        message = f"payload key file {entry.file} does not hold base64: {error}"
        raise ConfigurationInvalid(message) from error


def _text(name: str) -> str:
    return _bytes(name).decode("utf-8", "replace").strip()


def _optional_bytes(name: str | None) -> bytes | None:
    return None if name is None else _bytes(name)


def _bytes(name: str) -> bytes:
    try:
        return Path(name).read_bytes()
    except OSError as error:
        message = f"cannot read {name}: {error.strerror}"
        raise CredentialMissing(message) from error

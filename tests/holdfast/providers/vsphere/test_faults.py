"""Faults and broken connections become errors of ours, which say what may be tried again."""

import http.client
import ssl
from typing import Any

import pytest
from pyVmomi import vim, vmodl

from holdfast.errors import (
    AccessDenied,
    DiskNotFound,
    HoldfastError,
    MachineNotFound,
    MachineRunning,
    ProviderUnavailable,
    QuiesceFailed,
    RequestInvalid,
    SnapshotFailed,
    SourceError,
    TargetExists,
)
from holdfast.providers.vsphere.faults import SessionLost, error_of, translated

ON, OFF = "poweredOn", "poweredOff"


@pytest.mark.parametrize(
    "fault, kind",
    [
        (vim.fault.InvalidLogin(), AccessDenied),
        (vim.fault.NoPermission(privilegeId="VirtualMachine.State.CreateSnapshot"), AccessDenied),
        (vmodl.fault.ManagedObjectNotFound(), MachineNotFound),
        (vim.fault.FileNotFound(file="[ds] a"), DiskNotFound),
        (vim.fault.DuplicateName(name="web"), TargetExists),
        (vim.fault.FileAlreadyExists(file="[ds] a"), TargetExists),
        (vim.fault.ApplicationQuiesceFault(), QuiesceFailed),
        (vim.fault.FilesystemQuiesceFault(), QuiesceFailed),
        (vim.fault.SnapshotFault(), SnapshotFailed),
        (vim.fault.FileLocked(file="[ds] a"), SnapshotFailed),
        (vim.fault.TaskInProgress(), SnapshotFailed),
        (vim.fault.InvalidPowerState(existingState=ON), MachineRunning),
        (vim.fault.InvalidPowerState(existingState=OFF), RequestInvalid),
        (vim.fault.InvalidPowerState(existingState=vim.VirtualMachine.PowerState.suspended), MachineRunning),
        (vmodl.fault.InvalidArgument(invalidProperty="x"), RequestInvalid),
        (vmodl.fault.NotSupported(), RequestInvalid),
        (vmodl.fault.HostCommunication(), ProviderUnavailable),
        (vmodl.fault.SystemError(reason="r"), ProviderUnavailable),
        (vmodl.fault.RequestCanceled(), ProviderUnavailable),
        (vim.fault.InsufficientResourcesFault(), SourceError),
    ],
)
def test_a_fault_has_a_meaning(fault: Any, kind: type[HoldfastError]) -> None:
    error = error_of(fault, "doing x")
    assert type(error) is kind
    assert error.message.startswith("doing x: ")


def test_an_error_tells_what_the_fault_knows() -> None:
    denied = error_of(vim.fault.NoPermission(privilegeId="Datastore.Browse", msg="no"), "x")
    assert denied.message == "x: NoPermission (no), privilege Datastore.Browse"
    locked = error_of(vim.fault.FileLocked(file="[ds] a/a.vmdk"), "x")
    assert "[ds] a/a.vmdk" in locked.message


@pytest.mark.parametrize(
    "broken, kind",
    [
        (ConnectionRefusedError(111, "refused"), ProviderUnavailable),
        (TimeoutError("timed out"), ProviderUnavailable),
        (http.client.RemoteDisconnected("closed"), ProviderUnavailable),
        (http.client.BadStatusLine("junk"), ProviderUnavailable),
        (ssl.SSLEOFError(8, "EOF occurred in violation of protocol"), ProviderUnavailable),
        (ssl.SSLCertVerificationError(1, "certificate verify failed"), AccessDenied),
    ],
)
def test_a_broken_connection_may_be_tried_again_and_a_wrong_certificate_not(
    broken: Exception, kind: type[HoldfastError]
) -> None:
    with pytest.raises(kind, match="reading: ") as caught, translated("reading"):
        raise broken
    assert caught.value.retryable is (kind is ProviderUnavailable)


def test_a_lost_session_is_no_error_yet() -> None:
    with pytest.raises(SessionLost, match="reading"), translated("reading"):
        raise vim.fault.NotAuthenticated


def test_errors_of_ours_pass() -> None:
    with pytest.raises(DiskNotFound), translated("reading"):
        raise DiskNotFound("there is no disk")


@pytest.mark.parametrize(
    "fault, is_passing",
    [(vim.fault.TaskInProgress(), True), (vim.fault.FileLocked(), True), (vim.fault.SnapshotFault(), False)],
)
def test_what_else_goes_on_with_a_machine_passes(fault: Exception, is_passing: bool) -> None:
    error = error_of(fault, "taking a snapshot")
    assert isinstance(error, SnapshotFailed)
    assert (error.is_passing, error.retryable) == (is_passing, True)

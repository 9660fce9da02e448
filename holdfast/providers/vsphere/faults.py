"""What a fault of vSphere means to Holdfast."""

import http.client
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final

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

_PRIVILEGES_HINT = "Give the account the least role of docs/vsphere.md on the objects that it protects."
_CERTIFICATE_HINT = "Compare the certificate with the one the provider's settings pin, or name its CA there."


class SessionLost(Exception):
    """The vCenter does not know the session any more."""


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Raise the faults and connection errors of the block as Holdfast's; ``what`` says what was being done."""
    try:
        yield
    except vim.fault.NotAuthenticated as fault:
        raise SessionLost(what) from fault
    except (vmodl.MethodFault, vmodl.RuntimeFault) as fault:
        raise error_of(fault, what) from fault
    except ssl.SSLCertVerificationError as error:
        raise AccessDenied(f"{what}: certificate refused: {error}", hint=_CERTIFICATE_HINT) from error
    except (OSError, http.client.HTTPException) as error:
        raise ProviderUnavailable(f"{what}: {str(error) or type(error).__name__}") from error


def error_of(fault: Exception, what: str) -> HoldfastError:
    """Return the error for a fault, raised or read from a task."""
    text = f"{what}: {_words(fault)}"
    if isinstance(fault, vim.fault.NoPermission):
        return AccessDenied(f"{text}, privilege {fault.privilegeId}", hint=_PRIVILEGES_HINT)
    if isinstance(fault, vim.fault.InvalidPowerState):
        is_off = fault.existingState == vim.VirtualMachine.PowerState.poweredOff
        return RequestInvalid(text) if is_off else MachineRunning(text)
    for faults, kind, hint in _MEANINGS:
        if isinstance(fault, faults):
            return kind(text, hint=hint)
    return SourceError(text)


_MEANINGS: Final[tuple[tuple[tuple[type[Exception], ...], Callable[..., HoldfastError], str | None], ...]] = (
    (
        (vim.fault.InvalidLogin, vim.fault.NoClientCertificate, vim.fault.HostConnectFault),
        AccessDenied,
        "Check the user name and the password of the provider's credential.",
    ),
    (
        (vmodl.fault.ManagedObjectNotFound,),
        MachineNotFound,
        "It was removed, or registered again, since the session looked at it.",
    ),
    ((vim.fault.FileNotFound,), DiskNotFound, None),
    ((vim.fault.DuplicateName, vim.fault.FileAlreadyExists), TargetExists, None),
    ((vim.fault.ApplicationQuiesceFault, vim.fault.FilesystemQuiesceFault), QuiesceFailed, None),
    ((vim.fault.FileLocked, vim.fault.TaskInProgress), partial(SnapshotFailed, is_passing=True), None),
    ((vim.fault.SnapshotFault,), SnapshotFailed, None),
    ((vmodl.fault.InvalidArgument, vmodl.fault.NotSupported, vim.fault.InvalidName), RequestInvalid, None),
    (
        (vmodl.fault.HostCommunication, vmodl.fault.SystemError, vmodl.fault.RequestCanceled),
        ProviderUnavailable,
        None,
    ),
)
"""The first line that fits says what a fault means, and what to do about it if the error's own hint is not enough."""


def _words(fault: Exception) -> str:
    """Return the fault's class and what vSphere says about it."""
    name = type(fault).__name__.rpartition(".")[2]
    details = [getattr(fault, "msg", "") or ""]
    details += [message.message or "" for message in getattr(fault, "faultMessage", None) or ()]
    details += [str(getattr(fault, name, None) or "") for name in ("file", "name", "invalidProperty")]
    said = "; ".join(dict.fromkeys(part for part in details if part))
    return f"{name} ({said})" if said else name

"""What a fault of vSphere means to Holdfast."""

import http.client
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from pyVmomi import vim, vmodl

from holdfast.errors import (
    AccessDenied,
    DiskNotFound,
    HoldfastError,
    MachineNotFound,
    MachineRunning,
    ProviderUnavailable,
    RequestInvalid,
    SourceError,
    TargetExists,
)

_PRIVILEGES_HINT = "Give the account the least role of docs/providers/vsphere.md on the objects that it protects."
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
    except ssl.SSLError as error:
        raise AccessDenied(f"{what}: certificate refused: {error}", hint=_CERTIFICATE_HINT) from error
    except (OSError, http.client.HTTPException) as error:
        raise ProviderUnavailable(f"{what}: {error or type(error).__name__}") from error


def error_of(fault: Exception, what: str) -> HoldfastError:
    """Return the error for a fault, raised or read from a task."""
    text = f"{what}: {_words(fault)}"
    match fault:
        case vim.fault.NoPermission():
            return AccessDenied(f"{text}, privilege {fault.privilegeId}", hint=_PRIVILEGES_HINT)
        case vim.fault.InvalidLogin() | vim.fault.NoClientCertificate() | vim.fault.HostConnectFault():
            return AccessDenied(text, hint="Check the user name and the password of the provider's credential.")
        case vmodl.fault.ManagedObjectNotFound():
            return MachineNotFound(text, hint="It was removed, or registered again, since the session looked at it.")
        case vim.fault.FileNotFound():
            return DiskNotFound(text)
        case vim.fault.DuplicateName() | vim.fault.FileAlreadyExists():
            return TargetExists(text)
        case vim.fault.InvalidPowerState() if fault.existingState == vim.VirtualMachine.PowerState.poweredOn:
            return MachineRunning(text)
        case vmodl.fault.InvalidArgument() | vmodl.fault.NotSupported() | vim.fault.InvalidName():
            return RequestInvalid(text)
        case vmodl.fault.HostCommunication() | vmodl.fault.SystemError() | vmodl.fault.RequestCanceled():
            return ProviderUnavailable(text)
        case _:
            return SourceError(text)


def _words(fault: Exception) -> str:
    """Return the fault's class and what vSphere says about it."""
    name = type(fault).__name__.rpartition(".")[2]
    details = [getattr(fault, "msg", "") or ""]
    details += [message.message or "" for message in getattr(fault, "faultMessage", None) or ()]
    details += [str(getattr(fault, name, None) or "") for name in ("file", "name", "invalidProperty")]
    said = "; ".join(dict.fromkeys(part for part in details if part))
    return f"{name} ({said})" if said else name

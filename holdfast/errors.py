"""Every error Holdfast raises on purpose.

::

    HoldfastError
    ├── InputError                  what was asked for cannot be done as asked
    │   ├── ConfigurationInvalid
    │   ├── RequestInvalid
    │   ├── MachineNotFound
    │   ├── DiskNotFound
    │   ├── PointNotFound
    │   ├── RepositoryNotFound
    │   ├── SessionNotFound
    │   ├── CredentialMissing
    │   ├── TargetExists
    │   │   └── IdentityTaken
    │   ├── PlanChanged
    │   ├── PointLocked
    │   └── ClockJumped
    ├── SourceError                 the hypervisor or a source disk
    │   ├── ProviderUnavailable
    │   ├── AccessDenied
    │   ├── MachineInaccessible
    │   ├── SnapshotFailed
    │   ├── SnapshotRefused
    │   ├── QuiesceFailed
    │   ├── SnapshotNotFound
    │   ├── DiskChanged
    │   ├── DiskReadFailed
    │   ├── DiskMoved
    │   ├── MachineRunning
    │   └── ChangeTrackingLost
    ├── TargetError                 the place a restore writes to
    │   ├── DiskWriteFailed
    │   └── RestoredBytesDiffer
    ├── RepositoryError             the files of a repository
    │   ├── RepositoryUnavailable
    │   ├── RepositoryFull
    │   ├── ChainBusy
    │   ├── WriterFenced
    │   ├── SyncFailed
    │   └── StoreFailed
    ├── DataError                   stored bytes are not what they should be
    │   ├── FormatUnknown
    │   ├── FormatTooNew
    │   ├── FileDamaged
    │   ├── DataDamaged
    │   ├── ChainBroken
    │   ├── PassphraseWrong
    │   ├── EncodingFailed
    │   ├── ProofInvalid
    │   └── ProofContradicted
    ├── LinkError                   the line between two data movers
    │   ├── ProtocolError
    │   ├── LinkRefused
    │   └── LinkLost
    ├── LimitExceeded
    ├── ServerUnavailable           Temporal cannot be reached
    ├── ProxyUnavailable            no proxy can do what was asked for
    ├── CatalogUnavailable
    ├── ToolMissing
    ├── OperationCancelled
    ├── OperationInterrupted        the process is going down; another attempt resumes
    └── SessionFailed               a session ended without success; see its tasks

Each class carries a stable ``code`` (never reused, never renamed), whether a retry of the same request can succeed,
the exit status of the command line, and a default hint. Messages are lower case, without a full stop, and name the
ids; hints are sentences. The table in docs/reference/errors.md is checked against this module by a test.
"""

from typing import ClassVar


class HoldfastError(Exception):
    """Root of the tree. Use a subclass; the code of the root only marks an unforeseen case."""

    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False
    exit_status: ClassVar[int] = 70
    default_hint: ClassVar[str] = "This is a defect in Holdfast; keep the message and report it."

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint if hint is not None else self.default_hint


class InputError(HoldfastError):
    """What was asked for cannot be done as asked."""

    code = "input-invalid"
    exit_status = 10
    default_hint = "Correct the request and run it again."


class ConfigurationInvalid(InputError):
    """A configuration file has an unknown key, a wrong type or a contradiction."""

    code = "configuration-invalid"
    exit_status = 11
    default_hint = "Correct the configuration file; docs/reference/configuration.md lists every key."


class RequestInvalid(InputError):
    """An argument is outside what is allowed."""

    code = "request-invalid"
    exit_status = 12


class MachineNotFound(InputError):
    """The provider reports no such machine."""

    code = "machine-not-found"
    exit_status = 13
    default_hint = "List the provider's machines with `holdfast machines`."


class DiskNotFound(InputError):
    """The machine or the restore point has no such disk."""

    code = "disk-not-found"
    exit_status = 14
    default_hint = "List the disks of the point with `holdfast points --disks`."


class PointNotFound(InputError):
    """No restore point matches."""

    code = "point-not-found"
    exit_status = 15
    default_hint = "List the points with `holdfast points`."


class RepositoryNotFound(InputError):
    """The configuration names no such repository."""

    code = "repository-not-found"
    exit_status = 16
    default_hint = "Add the repository to the configuration file or correct its name."


class SessionNotFound(InputError):
    """The catalog holds no such session."""

    code = "session-not-found"
    exit_status = 17
    default_hint = "List the sessions with `holdfast sessions`."


class CredentialMissing(InputError):
    """A passphrase or credential that is referred to by name is not there."""

    code = "credential-missing"
    exit_status = 18
    default_hint = "Create the named credential file, readable by its owner only."


class TargetExists(InputError):
    """The place a new machine or disk should be written to is taken."""

    code = "target-exists"
    exit_status = 19
    default_hint = "Choose another name or restore to the original place."


class IdentityTaken(TargetExists):
    """A MAC address or uuid that a restored machine shall keep belongs to another machine."""

    code = "identity-taken"
    exit_status = 33
    default_hint = "Restore with a new one, or take the machine that has it out of the provider's inventory first."


class PlanChanged(InputError):
    """What would be done is not what was shown, because something changed meanwhile."""

    code = "plan-changed"
    exit_status = 34
    default_hint = "Look at the plan as it is now, and run that."


class PointLocked(InputError):
    """A point that is locked would have to go, or a file that it needs."""

    code = "point-locked"
    exit_status = 35
    default_hint = "Wait until the lock ends; a lock is never taken away before its time."


class ClockJumped(InputError):
    """The clock of the host does not go on from when the repository was last used."""

    code = "clock-jumped"
    exit_status = 36
    default_hint = (
        "Set the clock of the repository's host right. Where it is right, and the repository was not used for long: "
        "`holdfast retention clock --accept`."
    )


class SourceError(HoldfastError):
    """The hypervisor or a source disk."""

    code = "source-failed"
    retryable = True
    exit_status = 20
    default_hint = "Check the hypervisor and run the job again."


class ProviderUnavailable(SourceError):
    """The provider cannot be reached."""

    code = "provider-unavailable"
    exit_status = 21


class AccessDenied(SourceError):
    """The provider refuses the account, its privileges, or shows a certificate that is not trusted."""

    code = "access-denied"
    retryable = False
    exit_status = 28
    default_hint = "Check the provider's credential and its privileges."


class MachineInaccessible(SourceError):
    """The provider lists the machine and knows nothing else of it, because its storage or its host is away."""

    code = "machine-inaccessible"
    exit_status = 68
    default_hint = "Bring the storage or the host of the machine back; what waits for it goes on by itself."


class SnapshotFailed(SourceError):
    """A snapshot could not be taken or removed."""

    code = "snapshot-failed"
    exit_status = 22

    def __init__(self, message: str, *, hint: str | None = None, is_passing: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.is_passing = is_passing
        """Whether something else was going on with the machine, of which the same call later knows nothing."""


class SnapshotRefused(SourceError):
    """A rule of the operator forbids to freeze the machine as it is."""

    code = "snapshot-refused"
    retryable = False
    exit_status = 38
    default_hint = "Change the machine or the rule, and run the job again."


class QuiesceFailed(SourceError):
    """The guest did not come to rest, and the job does not want it otherwise."""

    code = "quiesce-failed"
    retryable = False
    exit_status = 29
    default_hint = 'Look at the tools and the logs in the guest, or let the job try only: `quiesce = "try"`.'


class SnapshotNotFound(SourceError):
    """A snapshot that a session needs is gone."""

    code = "snapshot-not-found"
    retryable = False
    exit_status = 23
    default_hint = "Somebody removed the snapshot during the session; run the job again."


class DiskChanged(SourceError):
    """A disk appeared, disappeared or changed its size while it was being read."""

    code = "disk-changed"
    retryable = False
    exit_status = 24
    default_hint = "Run the job again; the next point takes the disk as it is now."


class DiskReadFailed(SourceError):
    """A source disk could not be read."""

    code = "disk-read-failed"
    exit_status = 25


class DiskMoved(SourceError):
    """A source disk moved to another place of the storage while it was read, so that its copy is not to be believed."""

    code = "disk-moved"
    exit_status = 39
    default_hint = (
        "The disk is copied again from the start; when it goes on moving, run the job when it has come to rest."
    )

    def __init__(self, message: str, *, hint: str | None = None, is_last: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.is_last = is_last
        """Whether it has moved so often that another attempt has to wait for another session."""


class MachineRunning(SourceError):
    """The operation needs the machine powered off."""

    code = "machine-running"
    retryable = False
    exit_status = 26
    default_hint = "Power the machine off or restore to a new place."


class ChangeTrackingLost(SourceError):
    """The provider cannot tell what changed since the given change id."""

    code = "change-tracking-lost"
    retryable = False
    exit_status = 27
    default_hint = "The whole disk is read and compared by digest instead."


class TargetError(HoldfastError):
    """The place a restore writes to."""

    code = "target-failed"
    retryable = True
    exit_status = 30
    default_hint = "Check the target and run the restore again; it continues where it stopped."


class DiskWriteFailed(TargetError):
    """A target disk could not be written."""

    code = "disk-write-failed"
    exit_status = 31


class RestoredBytesDiffer(TargetError):
    """What was read back from the target is not what was written."""

    code = "restored-bytes-differ"
    retryable = False
    exit_status = 32
    default_hint = "Do not use the target; check its storage and restore to another place."


class RepositoryError(HoldfastError):
    """The files of a repository."""

    code = "repository-failed"
    retryable = True
    exit_status = 40
    default_hint = "Check the repository's storage and run the job again."


class RepositoryUnavailable(RepositoryError):
    """The repository's folder is gone or is not the folder it was."""

    code = "repository-unavailable"
    exit_status = 41
    default_hint = "Mount the repository's folder again; the job continues by itself."


class RepositoryFull(RepositoryError):
    """No space is left."""

    code = "repository-full"
    exit_status = 42
    default_hint = "Free space in the repository and run the job again; finished restore points are kept."


class ChainBusy(RepositoryError):
    """Another writer holds the chain."""

    code = "chain-busy"
    exit_status = 43
    default_hint = "Wait for the other session to end; `holdfast sessions` shows it."


class WriterFenced(RepositoryError):
    """A newer writer has taken over; this one must stop."""

    code = "writer-fenced"
    retryable = False
    exit_status = 44
    default_hint = "A newer attempt continues the work; nothing is to be done here."


class SyncFailed(RepositoryError):
    """The storage reported a failed flush; the file is not trusted any more."""

    code = "sync-failed"
    retryable = False
    exit_status = 45
    default_hint = "Check the repository's storage; the file is set aside and the next run writes a new one."


class StoreFailed(RepositoryError):
    """A file operation of the repository failed."""

    code = "store-failed"
    exit_status = 46


class DataError(HoldfastError):
    """Stored bytes are not what they should be."""

    code = "data-invalid"
    exit_status = 50
    default_hint = "Run `holdfast verify` to see which restore points are affected."


class FormatUnknown(DataError):
    """The file is not one of ours."""

    code = "format-unknown"
    exit_status = 51
    default_hint = "The file is not a Holdfast chain file; check the path."


class FormatTooNew(DataError):
    """The file was written by a newer version."""

    code = "format-too-new"
    exit_status = 52
    default_hint = "Use the Holdfast version that wrote the file, or a later one."


class FileDamaged(DataError):
    """The structure of a chain file cannot be read."""

    code = "file-damaged"
    exit_status = 53


class DataDamaged(DataError):
    """Stored data of a restore point does not match its digest."""

    code = "data-damaged"
    exit_status = 54


class ChainBroken(DataError):
    """Files of a chain are missing or do not belong together."""

    code = "chain-broken"
    exit_status = 55
    default_hint = "Bring the missing file back, or start a new chain with a full."


class PassphraseWrong(DataError):
    """The passphrase does not open the chain."""

    code = "passphrase-wrong"
    exit_status = 56
    default_hint = "Give the passphrase the chain was created with."


class EncodingFailed(DataError):
    """A block that was just encoded did not decode to the same bytes."""

    code = "encoding-failed"
    retryable = True
    exit_status = 57
    default_hint = "The memory or processor of the host may be faulty; nothing wrong was stored."


class ProofInvalid(DataError):
    """A proof was not signed by the key that is trusted, or not as it stands."""

    code = "proof-invalid"
    exit_status = 58
    default_hint = "Do not believe it; ask who made it for another copy."


class ProofContradicted(DataError):
    """A chain does not hold what a proof says of it."""

    code = "proof-contradicted"
    exit_status = 59
    default_hint = "The chain was changed or damaged since; `holdfast verify` says what can still be restored."


class LinkError(HoldfastError):
    """The line between two data movers."""

    code = "link-failed"
    retryable = True
    exit_status = 80
    default_hint = "Check the network between the proxy and the repository and run the job again."


class ProtocolError(LinkError):
    """The other data mover sent what the protocol does not allow."""

    code = "protocol-violated"
    retryable = False
    exit_status = 81
    default_hint = "Run the same Holdfast version on both hosts; if they do, report the message."


class LinkRefused(LinkError):
    """The two data movers do not accept each other."""

    code = "link-refused"
    retryable = False
    exit_status = 82
    default_hint = "Run the job again; a new session gets a new token."


class LinkLost(LinkError):
    """The line between two data movers stayed cut for longer than a session waits."""

    code = "link-lost"
    exit_status = 83


class LimitExceeded(HoldfastError):
    """A stated limit is exceeded."""

    code = "limit-exceeded"
    exit_status = 60
    default_hint = "docs/limits.md states the limits."


class ServerUnavailable(HoldfastError):
    """Temporal cannot be reached."""

    code = "server-unavailable"
    retryable = True
    exit_status = 61
    default_hint = (
        "Start the server (`holdfast dev`) or correct the address; running sessions continue when it is back."
    )


class ProxyUnavailable(HoldfastError):
    """No proxy that may do the work is there, reaches everything, and has a free slot in time."""

    code = "proxy-unavailable"
    exit_status = 67
    default_hint = "Start a worker of a proxy that reaches the machine, or allow the job another one."


class CatalogUnavailable(HoldfastError):
    """The catalog database cannot be reached or is newer than this version."""

    code = "catalog-unavailable"
    retryable = True
    exit_status = 62
    default_hint = "Check the catalog's address; data in repositories does not depend on it."


class ToolMissing(HoldfastError):
    """A program that is needed is not installed."""

    code = "tool-missing"
    exit_status = 63
    default_hint = "Install the program and run the command again."


class OperationCancelled(HoldfastError):
    """Somebody asked the operation to stop."""

    code = "cancelled"
    exit_status = 64
    default_hint = "Start it again when wanted; what was committed before is kept."


class OperationInterrupted(HoldfastError):
    """The process is going down; another attempt resumes."""

    code = "interrupted"
    retryable = True
    exit_status = 65
    default_hint = "Another attempt continues from the last commit by itself."


class SessionFailed(HoldfastError):
    """A session ended without success; its tasks say why."""

    code = "session-failed"
    exit_status = 66
    default_hint = "Look at the session with `holdfast sessions show`."


def error_classes() -> list[type[HoldfastError]]:
    """Return every class of the tree, root first, breadth first."""
    found: list[type[HoldfastError]] = [HoldfastError]
    for cls in found:
        found.extend(cls.__subclasses__())
    return found


def error_class(code: str) -> type[HoldfastError] | None:
    """Return the class with this ``code``, or None for a code this version does not know."""
    return next((cls for cls in error_classes() if cls.code == code), None)

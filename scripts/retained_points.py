"""Starts of sessions with retention, for their histories: the newest point stays."""

from typing import Final

import msgspec

from holdfast.model.ids import JobName, MachineId, RepositoryName, SessionId
from holdfast.model.retention import KeepUnit, RetentionOptions, RetentionPolicy
from workers.cli.starts import Start, retention_start
from workflows.messages import RetentionRequest, ShownPlan, UpkeepOptions

_POLICY: Final = RetentionPolicy(keep=1, unit=KeepUnit.POINTS)
_RULES: Final = UpkeepOptions(retention=RetentionOptions(policy=_POLICY, gone_after_days=30))


def backup_with_retention(start: Start) -> Start:
    """Return the start of a backup that looks after the chains of its machines, too."""
    return msgspec.structs.replace(start, request=msgspec.structs.replace(start.request, upkeep=_RULES))


def retention_as_shown(
    repository: RepositoryName, machine_id: MachineId, name: str, session_id: SessionId, *, is_gone: bool = False
) -> Start:
    """Return the start of a retention session that somebody agreed to, for one machine."""
    shown = ShownPlan(machine_id=machine_id, machine_name=name, digest="", is_gone=is_gone)
    return retention_start(
        RetentionRequest(
            job=JobName("nightly"),
            repository=repository,
            upkeep=_RULES,
            machines=(shown,),
            has_consent=True,
            session_id=session_id,
        )
    )

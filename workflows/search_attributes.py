"""What sessions can be searched by in Temporal: one definition for server, workflows and tests.

SQL stores allow ten Keyword and three Int attributes per namespace; this module uses six and one of
them. A name is never reused for another type: the server keeps the type of a name for ever. Values
are visible to everybody who may list workflows, also when payloads are encrypted; names of jobs,
machines and repositories are therefore not secret.
"""

from typing import Any, Final

import msgspec
from temporalio.common import (
    SearchAttributeIndexedValueType,
    SearchAttributeKey,
    SearchAttributePair,
    SearchAttributeUpdate,
    TypedSearchAttributes,
)

from holdfast.model.ids import JobName, RepositoryName
from holdfast.model.session import Outcome, SessionKind

JOB: Final = SearchAttributeKey.for_keyword("HoldfastJob")
"""Name of the job; empty for a session that belongs to none."""
MACHINE: Final = SearchAttributeKey.for_keyword("HoldfastMachine")
"""Display name of the machine; only on workflows that work on exactly one."""
KIND: Final = SearchAttributeKey.for_keyword("HoldfastKind")
"""A value of `SessionKind`."""
RESULT: Final = SearchAttributeKey.for_keyword("HoldfastResult")
"""A value of `Outcome`."""
REPOSITORY: Final = SearchAttributeKey.for_keyword("HoldfastRepository")
"""Name of the repository that is written or read."""
ERROR_CODE: Final = SearchAttributeKey.for_keyword("HoldfastErrorCode")
"""Stable code of the error that decided a failed or degraded result."""
STORED_BYTES: Final = SearchAttributeKey.for_int("HoldfastStoredBytes")
"""Bytes the session added to the repository."""

SEARCH_ATTRIBUTES: Final[tuple[SearchAttributeKey[Any], ...]] = (
    JOB,
    MACHINE,
    KIND,
    RESULT,
    REPOSITORY,
    ERROR_CODE,
    STORED_BYTES,
)
"""Every attribute a namespace needs before the first session starts."""

_TYPE_NAMES: Final = {
    SearchAttributeIndexedValueType.KEYWORD: "Keyword",
    SearchAttributeIndexedValueType.INT: "Int",
}


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """What a workflow run is about, as far as it can be searched by."""

    kind: SessionKind
    job: JobName | None = None
    """None: the session belongs to no job."""
    machine: str | None = None
    """Display name; None: the workflow works on several machines."""
    repository: RepositoryName | None = None
    """None: the session uses no repository."""


def declared_types() -> dict[str, str]:
    """Return name and type of every attribute, as the Temporal command line spells them."""
    return {key.name: _TYPE_NAMES[key.indexed_value_type] for key in SEARCH_ATTRIBUTES}


def started(subject: Subject) -> TypedSearchAttributes:
    """Return the attributes a workflow is started with; its result is ``running``."""
    pairs: list[SearchAttributePair[Any]] = [
        SearchAttributePair(KIND, subject.kind.value),
        SearchAttributePair(RESULT, Outcome.RUNNING.value),
    ]
    if subject.job is not None:
        pairs.append(SearchAttributePair(JOB, str(subject.job)))
    if subject.machine is not None:
        pairs.append(SearchAttributePair(MACHINE, subject.machine))
    if subject.repository is not None:
        pairs.append(SearchAttributePair(REPOSITORY, str(subject.repository)))
    return TypedSearchAttributes(pairs)


def ended(outcome: Outcome, *, stored_bytes: int, error_code: str | None = None) -> list[SearchAttributeUpdate[Any]]:
    """Return the updates a workflow makes when its outcome is known.

    ``error_code`` is None when nothing went wrong; an older code is then removed.
    """
    problem = ERROR_CODE.value_unset() if error_code is None else ERROR_CODE.value_set(error_code)
    return [RESULT.value_set(outcome.value), STORED_BYTES.value_set(stored_bytes), problem]

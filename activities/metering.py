"""What one attempt at a disk adds to the metrics: while it runs, about once a second, and when it ends."""

from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

import msgspec
from temporalio import activity

from holdfast import measures
from holdfast.clock import Clock
from holdfast.errors import OperationCancelled, OperationInterrupted
from holdfast.model.ids import RepositoryName
from holdfast.model.session import Figures
from holdfast.pipeline.stages import PipeProgress
from holdfast.planning.bottleneck import Stage, bottleneck

_INTERVAL_S: Final = 1.0
Report = Callable[[PipeProgress], None]


class TaskMeter:
    """Counts one attempt at a disk, of a kind: backup, restore or rollback. Use as a context manager around it."""

    def __init__(self, kind: str, repository: RepositoryName, clock: Clock) -> None:
        self._task = {"kind": kind, "repository": str(repository)}
        self._clock = clock
        self._counted: dict[str, float] = msgspec.structs.asdict(Figures())
        self._next_s = self._began_s = clock.monotonic_s()

    def __enter__(self) -> Self:
        """Count how long the attempt waited for its slot."""
        info = activity.info()
        waited_s = (info.started_time - info.current_attempt_scheduled_time).total_seconds()
        measures.TASK_WAIT.record(max(0.0, waited_s), kind=self._task["kind"], queue=info.task_queue)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Count how the attempt ended."""
        outcome = "success" if error is None else "failed"
        if isinstance(error, OperationCancelled | OperationInterrupted):
            outcome = "stopped"
        measures.TASKS.record(1, **self._task, outcome=outcome)
        measures.TASK_SECONDS.record(self._clock.monotonic_s() - self._began_s, **self._task, outcome=outcome)

    def since(self, figures: Figures) -> None:
        """Count from these figures on: what they say was done by earlier attempts."""
        self._counted = msgspec.structs.asdict(figures)

    def counting(self, report: Report) -> Report:
        """Return a report that also counts."""

        def both(progress: PipeProgress) -> None:
            now_s = self._clock.monotonic_s()
            if now_s >= self._next_s:
                self._next_s = now_s + _INTERVAL_S
                self._count(progress.figures)
            report(progress)

        return both

    def done(self, figures: Figures) -> None:
        """Count a disk that was done, with the figures of this attempt."""
        self._count(figures)
        found = bottleneck(figures)
        if found is not None:
            measures.BOTTLENECKS.record(1, **self._task, stage=found.value)

    def _count(self, figures: Figures) -> None:
        if not measures.is_recording():
            return
        for measure, field in _COUNTED.items():
            self._add(measure, figures, field)
        for stage, field in _STAGES.items():
            self._add(measures.BUSY, figures, field, stage=stage.value)

    def _add(self, measure: measures.Measure, figures: Figures, field: str, **labels: str) -> None:
        """Count by how much a figure has grown; that of the network is an estimate, and may shrink for a while."""
        amount = getattr(figures, field) - self._counted[field]
        if amount > 0:
            self._counted[field] += amount
            measure.record(amount, **self._task, **labels)


_COUNTED: Final = {
    measures.READ: "read_bytes",
    measures.TRANSFERRED: "transferred_bytes",
    measures.STORED: "stored_bytes",
    measures.READ_AGAIN: "resent_bytes",
}
_STAGES: Final = {
    Stage.SOURCE: "source_s",
    Stage.PROXY: "proxy_s",
    Stage.NETWORK: "network_s",
    Stage.TARGET: "target_s",
    Stage.THROTTLING: "throttled_s",
}

"""A disk together with the nbdkit process that serves it."""

from typing_extensions import override

from holdfast.clock import Clock
from holdfast.providers.nbd.disk import CONNECTIONS_MAX, NbdDisk, NbdOptions
from holdfast.providers.nbd.server import NbdServer, ServerPlan


class ServedDisk(NbdDisk):
    """Starts nbdkit, opens its disk and ends it again when the disk is closed.

    The constructor raises what `NbdServer.start` raises, then `DiskReadFailed` or `DiskWriteFailed` with nbdkit's own
    words: plugins log in to the hypervisor when the disk is opened.
    """

    def __init__(self, plan: ServerPlan, *, connections_max: int = CONNECTIONS_MAX, clock: Clock | None = None) -> None:
        self._server = NbdServer(plan, clock=clock)
        self._server.start()
        options = NbdOptions(is_writable=not plan.is_read_only, connections_max=connections_max)
        try:
            super().__init__(self._server.export, options, last_words=self._server.last_words, clock=clock)
        except BaseException:
            self._server.stop()
            raise

    @override
    def close(self) -> None:
        """Release the disk without flushing and end the process. Idempotent."""
        try:
            super().close()
        finally:
            self._server.stop()

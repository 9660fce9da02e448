"""Answers of the API to a listing of disks, without the devices that are none.

A list of devices names everything that a machine has, down to its keyboard, and most of the time that a listing of
thousands of machines takes goes into decoding that. What tells nothing of disks is cut out of an answer before pyVmomi
sees it.
"""

import gzip
import http.client
import io
import re
from typing import Final

from typing_extensions import override

_DEVICE: Final = re.compile(
    # Everything but disks and the controllers that machines can share.
    rb'<VirtualDevice [\w-]+:type="(?!VirtualDisk"|\w*(?:SCSI|Lsi|BusLogic)\w*")\w+">.*?</VirtualDevice>',
    re.DOTALL,
)


def lean(answer: bytes) -> bytes:
    """Return an answer without devices that are neither disks nor SCSI controllers.

    The text of an answer cannot be mistaken for a device: its angle brackets are escaped.
    """
    return _DEVICE.sub(b"", answer)


class LeanResponse(http.client.HTTPResponse):
    """An answer that is read as a whole and made lean at the first read."""

    _content: io.BytesIO | None = None
    _is_compressed = False

    @override
    def begin(self) -> None:
        """Read the headers. Compression ends here, and the reader need not know of it."""
        super().begin()
        self._is_compressed = self.headers.get("Content-Encoding", "").lower() == "gzip"
        if self._is_compressed:
            del self.headers["Content-Encoding"]

    @override
    def read(self, amt: int | None = None) -> bytes:
        """Return the next ``amt`` bytes of the lean answer."""
        if self._content is None:
            content = super().read()
            self._content = io.BytesIO(lean(gzip.decompress(content) if self._is_compressed else content))
        return self._content.read(amt)


class LeanConnection(http.client.HTTPSConnection):
    """A connection to the API whose answers are lean."""

    response_class = LeanResponse

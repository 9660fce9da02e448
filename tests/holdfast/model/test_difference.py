"""What differs between points goes to programs as JSON and comes back as it was."""

import msgspec

from holdfast.model.difference import ChangedFile, DiskDifference, VolumeChanges
from holdfast.model.spans import Span


def test_a_difference_comes_back_from_json() -> None:
    volume = VolumeChanges(
        place="partition 1", kind="ext", changed_bytes=4096, files=(ChangedFile(path="/a", changed_bytes=512),)
    )
    difference = DiskDifference(
        key="data", old_size_bytes=None, new_size_bytes=1 << 30, spans=(Span(0, 65536),), new_volumes=(volume,)
    )
    assert msgspec.json.decode(msgspec.json.encode(difference), type=DiskDifference) == difference
    assert msgspec.json.decode(b'{"key":"a","old_size_bytes":1,"new_size_bytes":2}', type=DiskDifference) == (
        DiskDifference(key="a", old_size_bytes=1, new_size_bytes=2)
    )

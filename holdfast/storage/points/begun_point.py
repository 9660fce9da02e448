"""The point that an attempt was told to write, told apart from one that another session began in its place."""

from holdfast.errors import PointNotFound
from holdfast.formats.contents import Contents, Point


def begun_point(contents: Contents, number: int, point_id: str = "") -> Point | None:
    """Return the point of a file with a number, or None when there is none; an empty ``point_id`` is not compared.

    A session that was given up is cleaned up behind, and the next one gives file and number again. Raises
    `PointNotFound` to whoever comes late and still means the point that was there before.
    """
    point = contents.point(number)
    if point is not None and point_id and point.id != point_id:
        raise PointNotFound(
            f"point {number} of file {contents.file} is no longer {point_id}: another session began it anew",
            hint="What was written before was removed; run the job again.",
        )
    return point

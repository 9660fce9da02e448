"""When change tracking is not to be believed: change ids in, a reason or none out.

A change id is opaque but for two things: what stands before the slash names an incarnation of the tracking, and behind
it stands a counter.
"""


def reason_to_distrust(since: str, now: str | None) -> str | None:
    """Return why the changes between two states cannot be asked for, or None when they can.

    A new incarnation means that tracking began anew in between: after an unclean end, a revert, another disk in the
    place, or tracking that was switched off. A counter that went back means that the disk did.
    """
    if not now:
        return "the disk is not tracked now"
    incarnation, counter = _parts(since)
    incarnation_now, counter_now = _parts(now)
    if incarnation != incarnation_now:
        return "the tracking began anew since the earlier point"
    if counter is None or counter_now is None:
        return f"the change ids {since!r} and {now!r} cannot be compared"
    if counter_now < counter:
        return f"the tracking went back from {counter} to {counter_now}"
    return None


def _parts(change_id: str) -> tuple[str, int | None]:
    incarnation, _, counter = change_id.partition("/")
    return incarnation, int(counter) if counter.isascii() and counter.isdigit() else None

"""What the job of a simulated year wants, drawn at random."""

import random

import msgspec

from holdfast.model.compression import Compression
from holdfast.model.fulls import FullDays, FullPolicy, MethodOptions
from holdfast.model.retention import KeepUnit, Method, RetentionOptions, RetentionPolicy, WeeklyRule

_SATURDAY, _SUNDAY = 5, 6


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What the job of a year wants."""

    retention: RetentionOptions
    method: MethodOptions
    passphrase: str | None


def draw_rules(rng: random.Random) -> Rules:
    """Return the rules of a job, drawn from all that go together."""
    method = rng.choice(list(Method))
    saturdays = FullDays(weekdays=(_SATURDAY,))
    fulls = FullPolicy()
    if method is Method.FORWARD:
        is_synthetic = rng.random() < 0.5
        fulls = FullPolicy(synthetic=saturdays) if is_synthetic else FullPolicy(active=saturdays)
    policy = RetentionPolicy(
        keep=rng.randint(2, 7),
        unit=rng.choice(list(KeepUnit)),
        minimum_points=rng.randint(1, 4),
        weekly=WeeklyRule(weeks=rng.randint(2, 5), weekday=_SATURDAY) if method is Method.FORWARD else None,
    )
    return Rules(
        retention=RetentionOptions(
            policy=policy, method=method, lock_days=rng.choice([0, 0, 3]), grace_days=2, gone_after_days=10
        ),
        method=MethodOptions(
            method=method,
            fulls=fulls,
            compact=FullDays(weekdays=(_SUNDAY,), week=1) if method is not Method.REVERSE else None,
            compression=Compression.NONE,
        ),
        passphrase=rng.choice([None, "correct horse"]),
    )

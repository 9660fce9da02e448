"""What the job of a simulated year wants, drawn at random."""

import random

import msgspec

from holdfast.model.compression import Compression
from holdfast.model.fulls import FullDays, FullPolicy, MethodOptions
from holdfast.model.retention import (
    KeepUnit,
    Method,
    MonthlyRule,
    RetentionOptions,
    RetentionPolicy,
    WeeklyRule,
    YearlyRule,
)

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
    policy = RetentionPolicy(keep=rng.randint(2, 7), unit=rng.choice(list(KeepUnit)), minimum_points=rng.randint(1, 4))
    if method is Method.FORWARD:
        policy = _with_calendar(policy, rng)
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


def _with_calendar(policy: RetentionPolicy, rng: random.Random) -> RetentionPolicy:
    """Return a policy with calendar rules, some of the three; fulls are made on Saturdays."""
    weekly = WeeklyRule(weeks=rng.randint(2, 5), weekday=rng.choice([_SATURDAY, _SUNDAY]))
    monthly = MonthlyRule(months=rng.randint(1, 4), week=rng.randint(1, 5))
    yearly = YearlyRule(years=1, month=rng.randint(1, 12))
    return msgspec.structs.replace(
        policy,
        weekly=weekly if rng.random() < 0.8 else None,
        monthly=monthly if rng.random() < 0.6 else None,
        yearly=yearly if rng.random() < 0.4 else None,
    )

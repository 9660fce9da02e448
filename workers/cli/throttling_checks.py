"""The check of ``holdfast doctor`` that tells what holds transfers back, and whether it does so now."""

from collections.abc import Iterator, Sequence

from holdfast.planning.throttling import Direction, Rule
from workers.cli import wording
from workers.cli.checks import Finding, ok, warn
from workers.cli.invocation import Invocation
from workers.config import Settings
from workers.repository_settings import RepositorySettings
from workers.throttling_settings import DAYS, ThrottlingSettings, rules_of
from workers.throttling_status import HeldNow, held_now


def check_throttling(run: Invocation) -> Iterator[Finding]:
    """Check that rules can have an effect, and tell all limits."""
    settings = run.settings
    held = held_now(settings.home, run.clock.now())
    for repository in settings.repositories:
        if repository.read_limit or repository.write_limit:
            names = (f"{direction.value} limit of repository {repository.name}" for direction in Direction)
            yield ok(f"limits {repository.name}", _limits(repository) + _those_under(held, *names))
    for table, rule in zip(settings.throttling, rules_of(settings.throttling), strict=True):
        text = _text(table, rule, is_on=rule.is_on(run.clock.now()))
        check, now = f"throttling {rule.name}", _those_under(held, f"throttling rule {rule.name}")
        if now or _has_network(settings):
            yield ok(check, text + now)
        else:
            hint = "Rules hold what movers send between hosts; `read_limit` and `write_limit` hold everything else."
            yield warn(check, f"{text}, and no repository has a mover that other hosts reach", hint)


def _those_under(held: Sequence[HeldNow], *limits: str) -> str:
    """Return who is held by limits now, to be put behind them."""
    found = [f"{one.label} at {wording.rate(one.rate_bytes_s)}" for one in held if one.because in limits]
    return f"; now {', '.join(found)}" if found else ""


def _limits(repository: RepositorySettings) -> str:
    told = (("reads", repository.read_limit), ("writes", repository.write_limit))
    return ", ".join(f"{what} {wording.rate(limit)}" for what, limit in told if limit)


def _text(table: ThrottlingSettings, rule: Rule, *, is_on: bool) -> str:
    when = "always"
    if rule.hours is not None:
        days = ", ".join(day for day in DAYS if day in table.days)
        when = f"{days} {table.hours} {table.timezone}, {'in force now' if is_on else 'not now'}"
    what = "backups and restores" if table.restores else "backups"
    return f"{what} {wording.rate(table.limit)} between {table.source} and {table.target}, {when}"


def _has_network(settings: Settings) -> bool:
    places = [repository.mover_place for repository in settings.repositories]
    return any(place is not None and place.has_tls for place in places)

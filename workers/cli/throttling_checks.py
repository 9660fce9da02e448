"""The check of ``holdfast doctor`` that tells what holds transfers back, and whether it does so now."""

from collections.abc import Iterator

from holdfast.mover.sockets import Address
from holdfast.planning.throttling import Rule
from workers.cli import wording
from workers.cli.checks import Finding, ok, warn
from workers.cli.invocation import Invocation
from workers.config import RepositorySettings, Settings
from workers.throttling_settings import DAYS, ThrottlingSettings, rules_of


def check_throttling(run: Invocation) -> Iterator[Finding]:
    """Check that rules can have an effect, and tell all limits."""
    settings = run.settings
    for repository in settings.repositories:
        if repository.read_limit or repository.write_limit:
            yield ok(f"limits {repository.name}", _limits(repository))
    for table, rule in zip(settings.throttling, rules_of(settings.throttling), strict=True):
        check, text = f"throttling {rule.name}", _text(table, rule, is_on=rule.is_on(run.clock.now()))
        if _has_network(settings):
            yield ok(check, text)
        else:
            hint = "Rules hold what movers send between hosts; `read_limit` and `write_limit` hold everything else."
            yield warn(check, f"{text}, and no repository has a mover that other hosts reach", hint)


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
    movers = [Address.parse(repository.mover) for repository in settings.repositories if repository.mover]
    return any(not address.is_loopback for address in movers)

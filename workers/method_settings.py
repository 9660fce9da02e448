"""What a job of the configuration says of its method, read and checked."""

from holdfast.errors import ConfigurationInvalid, RequestInvalid
from holdfast.model.fulls import FullDays, FullPolicy, MethodOptions
from holdfast.model.owners import ChainLayout, ChainOwner
from holdfast.model.retention import Method
from holdfast.planning.full_days import parse_full_days
from workers.job_settings import JobSettings


def check_method(job: JobSettings) -> None:
    """Raise `ConfigurationInvalid` when days cannot be read, or do not go with the method."""
    for name in ("active_full", "synthetic_full", "compact_full"):
        text = getattr(job, name)
        try:
            _days(text)
        except RequestInvalid as error:
            raise ConfigurationInvalid(f"{name} of job {job.name}: {error.message}", hint=error.hint) from error
    has_days = job.active_full is not None or job.synthetic_full is not None
    if job.method is Method.FORWARD and not has_days:
        hint = "Set `synthetic_full` or `active_full`, such as `saturday`, or leave `method` at `forever`."
        raise ConfigurationInvalid(f"job {job.name} has method forward and makes no fulls", hint=hint)
    if job.method is Method.FOREVER and has_days:
        hint = "Set `method` to `forward`, or leave the days out."
        raise ConfigurationInvalid(f"job {job.name} has days of fulls and method forever", hint=hint)
    rules = job.retention
    if job.method is Method.REVERSE and rules is not None and (rules.weeks or rules.months or rules.years):
        hint = "Calendar rules keep fulls, and with `reverse` no full stays one; use `forward`."
        raise ConfigurationInvalid(f"job {job.name} has calendar rules and method reverse", hint=hint)
    if job.method is Method.REVERSE and job.synthetic_full is not None:
        hint = "With `reverse` the newest point is a full after every session; leave `synthetic_full` out."
        raise ConfigurationInvalid(f"job {job.name} has synthetic fulls and method reverse", hint=hint)

    if job.chain is ChainLayout.PER_JOB:
        _check_shared(job)


def _check_shared(job: JobSettings) -> None:
    """Raise `ConfigurationInvalid` for what is not done with a chain that machines share."""
    if job.method is Method.REVERSE or job.synthetic_full is not None:
        hint = (
            "Leave `method` at `forever`, set `active_full` with method `forward`, or leave `chain` at `per-machine`."
        )
        raise ConfigurationInvalid(
            f"job {job.name} has chain per-job with what takes one machine: reverse or synthetic_full", hint=hint
        )


def owner_of(job: JobSettings) -> ChainOwner | None:
    """Return whose chain all machines of a job go into, or None when each has its own."""
    return ChainOwner.of_job(job.name) if job.chain is ChainLayout.PER_JOB else None


def fulls_of(job: JobSettings) -> FullPolicy | None:
    """Return when a job makes fulls without being asked, or None for never."""
    active, synthetic = _days(job.active_full), _days(job.synthetic_full)
    if active is None and synthetic is None:
        return None
    return FullPolicy(active=active, synthetic=synthetic, timezone=job.timezone)


def calendar_warning(job: JobSettings) -> str:
    """Return in words that the calendar rules of a job find no new full to keep; empty when they do."""
    rules = job.retention
    if rules is None or not (rules.weeks or rules.months or rules.years) or fulls_of(job) is not None:
        return ""
    return (
        f"job {job.name} has calendar rules and makes no fulls by itself: they keep its first full, which then takes "
        "no increment in, and nothing later; set `method` to `forward` and `synthetic_full` to a day"
    )


def method_of(job: JobSettings) -> MethodOptions | None:
    """Return what a job does with a chain once its point is there, or None for nothing."""
    compact = _days(job.compact_full)
    if job.method is not Method.REVERSE and job.synthetic_full is None and compact is None:
        return None
    return MethodOptions(
        method=job.method,
        fulls=fulls_of(job) or FullPolicy(timezone=job.timezone),
        compact=compact,
        compression=job.compression,
    )


def _days(text: str | None) -> FullDays | None:
    return None if text is None else parse_full_days(text)

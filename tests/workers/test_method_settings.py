"""What a job says of its method is read once, and refused in words."""

from typing import Any

import pytest

from holdfast.errors import ConfigurationInvalid
from holdfast.model.compression import Compression
from holdfast.model.fulls import FullDays, FullPolicy, MethodOptions
from holdfast.model.ids import JobName, ProviderName, RepositoryName
from holdfast.model.owners import ChainLayout, ChainOwner
from holdfast.model.retention import Method
from workers.job_settings import JobSettings
from workers.method_settings import calendar_warning, check_method, fulls_of, method_of, owner_of
from workers.retention_settings import RetentionSettings

SATURDAY = FullDays(weekdays=(5,))
FIRST_SUNDAY = FullDays(weekdays=(6,), week=1)


def job(**given: Any) -> JobSettings:
    name, provider, repository = JobName("nightly"), ProviderName("lab"), RepositoryName("main")
    made = JobSettings(name=name, provider=provider, repository=repository, **given)
    check_method(made)
    return made


def test_a_job_that_says_nothing_wants_nothing() -> None:
    assert (fulls_of(job()), method_of(job())) == (None, None)


@pytest.mark.parametrize("rules", [RetentionSettings(weeks=4), RetentionSettings(months=4), RetentionSettings(years=4)])
def test_calendar_rules_without_fulls_are_warned_of(rules: RetentionSettings) -> None:
    assert "makes no fulls by itself" in calendar_warning(job(retention=rules))
    assert calendar_warning(job(retention=rules, method=Method.FORWARD, synthetic_full="saturday")) == ""
    assert calendar_warning(job(retention=RetentionSettings(days=7))) == calendar_warning(job()) == ""


def test_days_are_those_of_the_jobs_time_zone() -> None:
    made = job(
        method=Method.FORWARD,
        active_full="first sunday",
        synthetic_full="saturday",
        timezone="Europe/Zurich",
        compression=Compression.LZ4,
    )
    fulls = FullPolicy(active=FIRST_SUNDAY, synthetic=SATURDAY, timezone="Europe/Zurich")
    assert fulls_of(made) == fulls
    assert method_of(made) == MethodOptions(method=Method.FORWARD, fulls=fulls, compression=Compression.LZ4)


def test_active_fulls_alone_want_nothing_behind_the_session() -> None:
    made = job(method=Method.FORWARD, active_full="saturday")
    assert (fulls_of(made), method_of(made)) == (FullPolicy(active=SATURDAY), None)


def test_reverse_and_compaction_go_without_fulls() -> None:
    made = job(method=Method.REVERSE, compact_full="saturday")
    assert fulls_of(made) is None
    assert method_of(made) == MethodOptions(method=Method.REVERSE, compact=SATURDAY)
    assert method_of(job(compact_full="saturday")) == MethodOptions(compact=SATURDAY)


@pytest.mark.parametrize(
    "given, words",
    [
        ({"compact_full": "someday"}, "compact_full of job nightly: 'someday' names no day: 'someday' is no weekday"),
        ({"method": Method.FORWARD}, "job nightly has method forward and makes no fulls"),
        ({"active_full": "saturday"}, "job nightly has days of fulls and method forever"),
        (
            {"method": Method.REVERSE, "synthetic_full": "saturday"},
            "job nightly has synthetic fulls and method reverse",
        ),
        (
            {"method": Method.REVERSE, "retention": RetentionSettings(weeks=4)},
            "job nightly has calendar rules and method reverse",
        ),
        (
            {"chain": ChainLayout.PER_JOB, "method": Method.REVERSE},
            "job nightly has chain per-job with what takes one machine: reverse or synthetic_full",
        ),
        (
            {"chain": ChainLayout.PER_JOB, "method": Method.FORWARD, "synthetic_full": "saturday"},
            "job nightly has chain per-job with what takes one machine: reverse or synthetic_full",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationInvalid) as caught:
        job(**given)
    assert caught.value.message == words
    assert caught.value.hint


def test_a_job_owns_the_chain_that_all_its_machines_share() -> None:
    assert owner_of(job()) is None
    assert owner_of(job(chain=ChainLayout.PER_JOB)) == ChainOwner.of_job(JobName("nightly"))
    rules = RetentionSettings(days=7)
    job(chain=ChainLayout.PER_JOB, method=Method.FORWARD, active_full="saturday", retention=rules)
    job(chain=ChainLayout.PER_JOB, retention=rules, compact_full="saturday")

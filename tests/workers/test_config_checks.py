"""Values that cannot mean anything are refused with table, key and a way out."""

import math
from contextlib import suppress

import msgspec
import pytest

from holdfast.catalog.connection import parse_address
from holdfast.errors import ConfigurationInvalid, ToolMissing
from holdfast.model.ids import JobName, ProviderName, RepositoryName
from workers.config_checks import (
    CATALOG_ENGINES,
    check_catalog,
    check_reserved,
    check_selection,
    check_telemetry,
    check_temporal,
)
from workers.job_settings import JobSettings
from workers.telemetry_settings import TelemetrySettings
from workers.temporal_settings import TemporalSettings

JOB = JobSettings(name=JobName("nightly"), provider=ProviderName("lab"), repository=RepositoryName("main"))


def job(**keys: tuple[str, ...]) -> JobSettings:
    return msgspec.structs.replace(JOB, **keys)


def test_what_means_something_is_taken() -> None:
    check_reserved(job())
    check_selection(job())
    check_selection(job(machines=("web", "folder:/", "tag:tier/gold", "machine:folder:x"), excluded=("db",)))
    check_selection(job(excluded_disks=("web01/2001", "*/scratch", "a/b/2000", "web/*")))


@pytest.mark.parametrize("reference", ["", " ", "folder:", "tag: ", "machine:"])
@pytest.mark.parametrize("key", ["machines", "excluded"])
def test_a_reference_that_names_nothing_is_refused(key: str, reference: str) -> None:
    with pytest.raises(ConfigurationInvalid) as caught:
        check_selection(job(**{key: ("web", reference)}))
    assert caught.value.message == f"{key} of job nightly has {reference!r}, which names nothing"
    assert "folder:/prod" in str(caught.value.hint)


@pytest.mark.parametrize("pattern", ["web01", "", "*", "/2001", "web01/", " / "])
def test_an_excluded_disk_needs_machine_and_key(pattern: str) -> None:
    with pytest.raises(ConfigurationInvalid) as caught:
        check_selection(job(excluded_disks=(pattern,)))
    assert caught.value.message == f"excluded_disks of job nightly has {pattern!r}, which names no disk"
    assert "web01/*" in str(caught.value.hint)


@pytest.mark.parametrize("name, command", [("adhoc", "backup --machine"), ("archive", "holdfast archive")])
def test_names_of_sessions_without_a_job_are_not_free(name: str, command: str) -> None:
    taken = msgspec.structs.replace(JOB, name=JobName(name))
    with pytest.raises(ConfigurationInvalid, match=command):
        check_reserved(taken)


@pytest.mark.parametrize("address", ["127.0.0.1:7233", "temporal.example.com:443", "[::1]:7233"])
def test_addresses_are_host_and_port(address: str) -> None:
    check_temporal(TemporalSettings(address=address))
    check_telemetry(TelemetrySettings(prometheus_address=address))
    check_telemetry(TelemetrySettings())


@pytest.mark.parametrize(
    "address", ["nowhere", "", ":7233", "host:", "host:0", "host:65536", "host:x", "http://h:1", "::1:7233", "a b:1"]
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ConfigurationInvalid) as caught:
        check_temporal(TemporalSettings(address=address))
    assert caught.value.message == f"temporal.address is {address!r}"
    assert "host:port" in str(caught.value.hint)
    with pytest.raises(ConfigurationInvalid) as caught:
        check_telemetry(TelemetrySettings(prometheus_address=address))
    assert caught.value.message == f"telemetry.prometheus_address is {address!r}"
    assert "host:port" in str(caught.value.hint)


@pytest.mark.parametrize("seconds", [-1.0, 0.0, math.inf, math.nan])
def test_a_server_is_tried_for_some_time(seconds: float) -> None:
    with pytest.raises(ConfigurationInvalid) as caught:
        check_temporal(TemporalSettings(connect_timeout_s=seconds))
    assert caught.value.message == f"temporal.connect_timeout_s is {seconds:g}"


@pytest.mark.parametrize("url", ["sqlite:////x/catalog.sqlite", "postgresql://u:p@h/db", "postgresql+psycopg://h/db"])
def test_a_catalog_is_in_a_known_kind_of_database(url: str) -> None:
    check_catalog(url)


@pytest.mark.parametrize("url", ["oracle://u:secret@h/db", "catalog.sqlite", "sqlite:x"])
def test_another_kind_of_database_is_refused_without_showing_its_password(url: str) -> None:
    with pytest.raises(ConfigurationInvalid, match="catalog_url") as caught:
        check_catalog(url)
    assert "secret" not in caught.value.message
    assert "postgresql://" in str(caught.value.hint)


@pytest.mark.parametrize("engine", CATALOG_ENGINES)
def test_the_catalog_knows_every_kind_of_database_that_is_taken(engine: str) -> None:
    with suppress(ToolMissing):  # a driver that is not installed is another matter
        assert parse_address(f"{engine}:////x/catalog").database

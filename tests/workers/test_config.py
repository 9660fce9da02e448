"""The configuration: every mistake is named with file, key and the nearest right one."""

from pathlib import Path

import pytest

from holdfast.errors import ConfigurationInvalid, HoldfastError, RepositoryNotFound, RequestInvalid
from holdfast.model.compression import Compression
from holdfast.model.ids import CredentialName, ProviderName
from holdfast.model.plan import TransportMode
from scripts import configuration_page
from workers.config import Settings, find_file, load_settings
from workers.provider_settings import DatastoreLatencySettings, LocalProviderSettings, VSphereProviderSettings

BASE = """
home = "home"
[[providers]]
name = "lab"
path = "lab"
[[repositories]]
name = "main"
path = "/srv/repository"
[[proxies]]
name = "proxy-1"
"""
JOB = """
[[jobs]]
name = "nightly"
provider = "lab"
repository = "main"
proxy = "proxy-1"
"""


VCENTER = """
[[providers]]
kind = "vsphere"
name = "vc"
host = "vc.example"
user = "root"
credential = "vc-pw"
"""


def write(folder: Path, text: str) -> Path:
    file = folder / "holdfast.toml"
    file.write_text(text)
    return file


def load(folder: Path, text: str, **environment: str) -> Settings:
    return load_settings(write(folder, text), environment)


def test_a_whole_file_is_read(tmp_path: Path) -> None:
    settings = load(tmp_path, BASE + JOB + 'compression = "lz4"\nschedule = "0 22 * * 1-5"\ntimezone = "Europe/Zurich"')
    assert settings.home == tmp_path / "home"
    assert settings.provider("lab") == LocalProviderSettings(name=ProviderName("lab"), path=tmp_path / "lab")
    assert settings.repository("main").path == Path("/srv/repository")
    assert settings.proxy("proxy-1").tasks == 2
    assert settings.job("nightly").compression is Compression.LZ4
    assert settings.catalog_url == f"sqlite:///{tmp_path}/home/catalog.sqlite"
    assert settings.credentials.folder == tmp_path / "home" / "credentials"
    assert settings.dev_server_folder == tmp_path / "home" / "temporal"


def test_a_job_has_one_proxy_or_several_or_any(tmp_path: Path) -> None:
    proxies = BASE + '[[proxies]]\nname = "proxy-2"\n[[proxies]]\nname = "proxy-3"\n'

    def names(text: str) -> list[str]:
        settings = load(tmp_path, proxies + JOB.replace('proxy = "proxy-1"', text))
        return [proxy.name for proxy in settings.proxies_of(settings.job("nightly"))]

    assert names('proxy = "proxy-2"') == ["proxy-2"]
    assert names('proxies = ["proxy-3", "proxy-1"]') == ["proxy-3", "proxy-1"]
    assert names("") == ["proxy-1", "proxy-2", "proxy-3"]
    with pytest.raises(ConfigurationInvalid, match="job nightly has both proxy and proxies"):
        names('proxy = "proxy-1"\nproxies = ["proxy-2"]')
    with pytest.raises(ConfigurationInvalid, match="job nightly: the configuration has no proxy proxy-9"):
        names('proxies = ["proxy-9"]')


def test_a_job_needs_some_proxy(tmp_path: Path) -> None:
    text = BASE.replace('[[proxies]]\nname = "proxy-1"', "") + JOB.replace('proxy = "proxy-1"', "")
    with pytest.raises(ConfigurationInvalid, match="job nightly: the configuration has no proxy"):
        load(tmp_path, text)


def test_a_vcenter_is_read_with_its_paths(tmp_path: Path) -> None:
    text = """
        port = 8443
        ca_file = "ca.pem"
        transports = ["https", "network"]
        mounts = { "data 1" = "mounts/data1", data2 = "/srv/data2" }
        nbdkit_plugin = ["python", "reader.py"]
        vddk_library = "vddk"
        foreign_snapshots = "refuse"
        """
    assert load(tmp_path, VCENTER + text).provider("vc") == VSphereProviderSettings(
        name=ProviderName("vc"),
        host="vc.example",
        port=8443,
        user="root",
        credential=CredentialName("vc-pw"),
        ca_file=tmp_path / "ca.pem",
        transports=(TransportMode.HTTPS, TransportMode.NETWORK),
        mounts={"data 1": tmp_path / "mounts" / "data1", "data2": Path("/srv/data2")},
        nbdkit_plugin=("python", "reader.py"),
        vddk_library=tmp_path / "vddk",
        foreign_snapshots="refuse",
    )


def test_a_vcenter_needs_little(tmp_path: Path) -> None:
    found = load(tmp_path, VCENTER + "snapshots_per_datastore_max = 0").provider("vc")
    assert isinstance(found, VSphereProviderSettings)
    assert (found.port, found.change_tracking, found.free_space_min_percent, found.mounts) == (443, True, 10, {})


def test_limits_of_latency_are_for_all_datastores_or_for_one(tmp_path: Path) -> None:
    text = """
        latency_start_max_ms = 20
        latency_slow_from_ms = 30

        [providers.latency_by_datastore.nfs01]
        start_max_ms = 40
        slow_from_ms = 40

        [providers.latency_by_datastore."tape cache"]
        """
    found = load(tmp_path, VCENTER + text).provider("vc")
    assert isinstance(found, VSphereProviderSettings)
    assert (found.latency_start_max_ms, found.latency_slow_from_ms) == (20, 30)
    assert found.latency_by_datastore == {
        "nfs01": DatastoreLatencySettings(start_max_ms=40, slow_from_ms=40),
        "tape cache": DatastoreLatencySettings(),
    }


@pytest.mark.parametrize("limits", ["latency_start_max_ms = 30\nlatency_slow_from_ms = 30", "latency_start_max_ms = 9"])
def test_limits_may_be_the_same_or_alone(tmp_path: Path, limits: str) -> None:
    load(tmp_path, VCENTER + limits)


def test_without_a_file_the_defaults_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load_settings(None, {"HOLDFAST_HOME": str(tmp_path / "place")})
    assert settings == Settings(home=tmp_path / "place")


def test_paths_of_temporal_and_catalog_are_relative_to_the_file(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        """
        catalog_url = "sqlite:///history.sqlite"
        [temporal]
        api_key_file = "token"
        [temporal.tls]
        server_ca = "/etc/ca.pem"
        certificate = "cert.pem"
        [[temporal.payload_keys]]
        key_id = "k1"
        file = "k1.key"
        """,
    )
    assert settings.catalog_url == f"sqlite:///{tmp_path}/history.sqlite"
    assert settings.temporal.api_key_file == str(tmp_path / "token")
    assert settings.temporal.tls is not None
    assert settings.temporal.tls.server_ca == "/etc/ca.pem"
    assert settings.temporal.tls.certificate == str(tmp_path / "cert.pem")
    assert settings.temporal.payload_keys[0].file == str(tmp_path / "k1.key")


def test_another_database_is_left_as_it_is(tmp_path: Path) -> None:
    assert load(tmp_path, 'catalog_url = "postgresql://h/db"').catalog_url == "postgresql://h/db"


def test_the_environment_says_where_temporal_is(tmp_path: Path) -> None:
    text = '[temporal]\naddress = "a:1"\nnamespace = "x"'
    settings = load(tmp_path, text, TEMPORAL_ADDRESS="b:2", TEMPORAL_NAMESPACE="")
    assert (settings.temporal.address, settings.temporal.namespace) == ("b:2", "x")


@pytest.mark.parametrize(
    "text, told",
    [
        (VCENTER + "transports = []", "transports of provider vc is empty"),
        (VCENTER + 'transports = ["https", "https"]', "transports of provider vc name one way twice"),
        (VCENTER + "nbdkit_plugin = []", "nbdkit_plugin of provider vc is empty"),
        (VCENTER.replace('"root"', '""'), "user of provider vc is empty"),
        (VCENTER + "port = 0", "port of provider vc is 0"),
        (VCENTER + "port = 65536", "port of provider vc is 65536"),
        (VCENTER + "free_space_min_percent = 91", "free_space_min_percent of provider vc is 91"),
        (VCENTER + "free_space_min_percent = -1", "free_space_min_percent of provider vc is -1"),
        (VCENTER + "snapshots_per_datastore_max = -1", "snapshots_per_datastore_max of provider vc is -1"),
        (VCENTER + "latency_start_max_ms = -1", "latency_start_max_ms of provider vc is -1"),
        (VCENTER + "latency_slow_from_ms = 10001", "latency_slow_from_ms of provider vc is 10001"),
        (VCENTER + "latency_sample_s = 0", "latency_sample_s of provider vc is 0"),
        (VCENTER + "latency_removal_wait_minutes = 61", "latency_removal_wait_minutes of provider vc is 61"),
        (VCENTER + "latency_start_pause_s = 601", "latency_start_pause_s of provider vc is 601"),
        (
            VCENTER + "latency_start_max_ms = 31\nlatency_slow_from_ms = 30",
            "latency_start_max_ms of provider vc is 31, above latency_slow_from_ms, which is 30",
        ),
        (
            VCENTER + "latency_by_datastore = {ds1 = {start_max_ms = 50, slow_from_ms = 40}}",
            "start_max_ms of datastore ds1 of provider vc is 50, above slow_from_ms, which is 40",
        ),
        (VCENTER.replace('"vc-pw"', '"../x"'), "provider vc: '../x' cannot be the name of a credential"),
        (VCENTER + 'thumbprint = "ab"\nca_file = "ca.pem"', "provider vc has both thumbprint and ca_file"),
        (BASE + '[[providers]]\nname = "b"\npath = "lab"', "providers lab and b have the same path"),
        (BASE + BASE.partition("home")[2].partition("\n")[2], "two provider tables are called lab"),
        ('[[proxies]]\nname = "a b"', "'a b' cannot be the name of a proxy"),
        (BASE + '[[repositories]]\nname = "b"\npath = "/srv/repository"', "main and b have the same path"),
        (BASE.replace("proxy-1", "p") + JOB, "job nightly: the configuration has no proxy proxy-1 (did: none)"),
        (BASE.replace('"main"', '"mane"') + JOB, "job nightly: the configuration has no repository main (did: mane)"),
        (BASE + "tasks = 0", "tasks of proxy proxy-1 is 0"),
        (BASE + JOB + "machines_at_once = 65", "machines_at_once of job nightly is 65"),
        (BASE + JOB + 'machines = ["a", "b"]\nexcluded = ["b"]', "both names and excludes machine b"),
        (BASE + JOB + 'exclude_files = ["*"]', "job nightly: mask '*' means every file"),
        (BASE + JOB + 'excluded_disks = ["web01"]', "excluded_disks of job nightly has 'web01', which names no disk"),
        (BASE + JOB + 'machines = ["folder:"]', "machines of job nightly has 'folder:', which names nothing"),
        (BASE + JOB + 'excluded = [""]', "excluded of job nightly has '', which names nothing"),
        (BASE + JOB.replace("nightly", "adhoc"), "name of job adhoc is the one under which"),
        (BASE + JOB.replace("nightly", "archive"), "name of job archive is the one under which"),
        ('[temporal]\naddress = "nowhere"', "temporal.address is 'nowhere'"),
        ("[temporal]\nconnect_timeout_s = -1.0", "temporal.connect_timeout_s is -1"),
        ('[telemetry]\nprometheus_address = "abc"', "telemetry.prometheus_address is 'abc'"),
        ('catalog_url = "oracle://x"', "catalog_url names no kind of database that a catalog can be in"),
        (BASE + JOB + "unit_size = 1000", "unit_size of job nightly is 1000"),
        (BASE + JOB + 'credential = "../x"', "'../x' cannot be the name of a credential"),
        (BASE + JOB + 'schedule = "daily"', "schedule of job nightly is 'daily'"),
        (BASE + JOB + 'schedule = "0 22 * * ; rm"', "schedule of job nightly is"),
        (BASE + JOB + 'timezone = "Mars/Olympus"', "no time zone 'Mars/Olympus'"),
        (BASE + JOB + 'timezone = "../../etc/passwd"', "no time zone '../../etc/passwd'"),
        ("a = 1\na = 2", "is not TOML: "),
        ("[", "is not TOML: "),
    ],
)
def test_every_mistake_is_named(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigurationInvalid) as caught:
        load(tmp_path, text)
    told, _, right = told.removesuffix(")" if " (did: " in told else "").partition(" (did: ")
    assert told in caught.value.message
    assert str(tmp_path / "holdfast.toml") in caught.value.message
    if right and right != "none":
        assert caught.value.hint == f"Did you mean `{right}`?"


def test_a_file_that_is_not_text_is_named(tmp_path: Path) -> None:
    file = tmp_path / "holdfast.toml"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationInvalid, match="is not TOML"):
        load_settings(file, {})


@pytest.mark.parametrize(
    "ask, error",
    [
        ("provider", ConfigurationInvalid),
        ("repository", RepositoryNotFound),
        ("proxy", ConfigurationInvalid),
        ("job", RequestInvalid),
    ],
)
def test_what_is_not_there_is_an_error_that_names_what_is(tmp_path: Path, ask: str, error: type[HoldfastError]) -> None:
    settings = load(tmp_path, BASE + JOB)
    with pytest.raises(error, match=f"no {ask} nothing") as caught:
        getattr(settings, ask)("nothing")
    known = {"provider": "lab", "repository": "main", "proxy": "proxy-1", "job": "nightly"}[ask]
    assert known in caught.value.hint


def test_the_file_is_looked_for_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, home, named, chosen = (tmp_path / name for name in ("here", "home", "named.toml", "chosen.toml"))
    here.mkdir()
    home.mkdir()
    monkeypatch.chdir(here)
    environment = {"HOLDFAST_HOME": str(home)}
    assert find_file(None, environment) is None
    (home / "holdfast.toml").touch()
    assert find_file(None, environment) == home / "holdfast.toml"
    (here / "holdfast.toml").touch()
    assert find_file(None, environment) == here / "holdfast.toml"
    named.touch()
    environment["HOLDFAST_CONFIG"] = str(named)
    assert find_file(None, environment) == named
    chosen.touch()
    assert find_file(chosen, environment) == chosen


def test_a_file_asked_for_by_name_has_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationInvalid, match="is not there"):
        find_file(tmp_path / "nothing.toml", {})
    with pytest.raises(ConfigurationInvalid, match="which HOLDFAST_CONFIG names"):
        find_file(None, {"HOLDFAST_CONFIG": str(tmp_path / "nothing.toml")})


def test_the_sample_is_right() -> None:
    sample = configuration_page.PAGE.parents[2] / "temporal-dev" / "holdfast.toml"
    assert [job.name for job in load_settings(sample, {}).jobs] == ["nightly", "weekly-encrypted"]


def test_the_reference_page_is_what_the_structs_say() -> None:
    assert configuration_page.PAGE.read_text() == configuration_page.page()

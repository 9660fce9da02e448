"""What is wrong with a file is said in its own words, with the nearest right one."""

from pathlib import Path

import pytest

from holdfast.errors import ConfigurationInvalid
from tests.workers.test_config import BASE, JOB, VCENTER, load
from workers.config_wording import nearest


@pytest.mark.parametrize(
    "word, known, told",
    [
        ("repositry", ["repository", "proxy"], "Did you mean `repository`?"),
        ("x", ["repository", "proxy"], "Known are: proxy, repository."),
        ("x", [], "There are none in the configuration."),
    ],
)
def test_a_wrong_word_leads_to_the_nearest_right_one(word: str, known: list[str], told: str) -> None:
    assert nearest(word, known) == told


@pytest.mark.parametrize(
    "text, told",
    [
        ('hom = "x"', "unknown key 'hom' (did: home)"),
        ('[temporal]\nadress = "x"', "unknown key 'adress' at temporal (did: address)"),
        ('[temporal.tls]\nserver_cert = "x"', "unknown key 'server_cert' at temporal.tls (did: server_ca)"),
        (BASE + "task = 3", "unknown key 'task' at proxies[0] (proxy-1) (did: tasks)"),
        (BASE + JOB + 'exclude = ["x"]', "unknown key 'exclude' at jobs[0] (nightly) (did: excluded)"),
        (BASE + "tasks = 'two'", "expected `int`, got `str` at proxies[0].tasks (proxy-1)"),
        (BASE + JOB + "verify = 1", "expected `bool | str`, got `int` at jobs[0].verify (nightly)"),
        (BASE + JOB + 'compression = "zip"', "invalid enum value 'zip' at jobs[0].compression (nightly)"),
        (BASE + JOB + "machines = [1]", "expected `str`, got `int` at jobs[0].machines[0] (nightly)"),
        ("providers = 3", "expected `array`, got `int` at providers"),
        ("home = 3", "expected `path`, got 3 at home"),
        ("temporal = 3", "expected `object`, got `int` at temporal"),
        ("[[proxies]]\n tasks = 1", "missing key `name` at proxies[0]"),
        ('[[providers]]\nname = "a"\nkind = "vm"\npath = "x"', "unknown kind 'vm' at providers[0] (a)"),
        ('[[providers]]\nkind = "vsphere"\nname = "a"', "missing key `host` at providers[0] (a)"),
        ('[[providers]]\nname = "a"\nkind = 3', "expected `str`, got `int` at providers[0].kind (a)"),
        ('[[providers]]\nname = "a"\npaht = "x"', "unknown key 'paht' at providers[0] (a) (did: path)"),
        (VCENTER + 'mount = "x"', "unknown key 'mount' at providers[0] (vc) (did: mounts)"),
        (VCENTER + "port = '443'", "expected `int`, got `str` at providers[0].port (vc)"),
        (VCENTER + "mounts = {ds1 = 3}", "expected `path`, got 3 at providers[0].mounts[...] (vc)"),
        (VCENTER + 'transports = ["san"]', "invalid enum value 'san' at providers[0].transports[0] (vc)"),
        (VCENTER + 'foreign_snapshots = "no"', "invalid enum value 'no' at providers[0].foreign_snapshots (vc)"),
        (
            VCENTER + "latency_by_datastore = {ds1 = {start_max = 50}}",
            "unknown key 'start_max' at providers[0].latency_by_datastore[...] (vc) (did: start_max_ms)",
        ),
    ],
)
def test_every_wrong_word_is_named_where_it_stands(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigurationInvalid) as caught:
        load(tmp_path, text)
    told, _, right = told.removesuffix(")" if " (did: " in told else "").partition(" (did: ")
    assert caught.value.message == f"{tmp_path / 'holdfast.toml'}: {told}"
    if right:
        assert caught.value.hint == f"Did you mean `{right}`?"


def test_an_unknown_kind_of_provider_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationInvalid) as caught:
        load(tmp_path, VCENTER.replace('"vsphere"', '"esx"'))
    assert caught.value.hint == "Known kinds of provider are: local, vsphere."

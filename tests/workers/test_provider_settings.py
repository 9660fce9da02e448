"""Provider tables: a kind that is not said means local, and the sample of a vCenter is right."""

import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from scripts import configuration_page
from workers.config import load_settings
from workers.provider_settings import KINDS, VSphereProviderSettings, with_kinds

SAMPLE = configuration_page.PAGE.parents[2] / "temporal-dev" / "holdfast.toml"


@pytest.mark.parametrize(
    "raw, said",
    [
        ({}, {}),
        ({"providers": [{"name": "a"}]}, {"providers": [{"kind": "local", "name": "a"}]}),
        ({"providers": [{"kind": "vsphere"}, 3]}, {"providers": [{"kind": "vsphere"}, 3]}),
        ({"providers": {"name": "a"}}, {"providers": {"name": "a"}}),
    ],
)
def test_a_table_that_says_no_kind_is_local(raw: dict[str, Any], said: dict[str, Any]) -> None:
    assert with_kinds(raw) == said


def test_every_kind_is_known_by_its_tag() -> None:
    assert {kind: struct.__struct_config__.tag for kind, struct in KINDS.items()} == {kind: kind for kind in KINDS}


def test_the_sample_of_a_vcenter_is_right_once_it_is_no_comment(tmp_path: Path) -> None:
    lines = SAMPLE.read_text().splitlines()
    start = lines.index("# [[providers]]")
    end = lines.index("", start)
    text = "\n".join(line.removeprefix("# ") for line in lines[start:end])
    assert tomllib.loads(text)["providers"][0]["kind"] == "vsphere"
    file = tmp_path / "holdfast.toml"
    file.write_text(text)
    found = load_settings(file, {}).provider("production")
    assert isinstance(found, VSphereProviderSettings)
    assert found.ca_file == tmp_path / "vcenter-ca.pem"
    assert msgspec.structs.asdict(found)["mounts"] == {"datastore1": Path("/mnt/datastore1")}

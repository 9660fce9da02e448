"""The files of the production-like cluster: well formed, loopback only, and what they set up.

Whether the containers run is not tested here; docs/operating/temporal-cluster.md says so.
"""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from workers.devserver import DevServerAddress, find_temporal
from workflows.search_attributes import declared_types

FOLDER = Path(__file__).resolve().parents[2] / "temporal-dev"
COMPOSE = (FOLDER / "compose.yaml").read_text()


def yaml_complaints(path: Path) -> list[str]:
    """Return what a YAML parser has against a file.

    The parser is that of Temporal's command line, the one Compose uses too. It is asked to read the
    file as its own settings, so it also complains that the values have other types; those
    complaints are left out.
    """
    command = [find_temporal(), "env", "list", "--env-file", str(path)]
    result = subprocess.run(command, env={}, capture_output=True, text=True, check=False)
    expected = ("yaml: unmarshal errors:", "cannot unmarshal !!")
    return [line for line in result.stderr.splitlines() if not any(e in line for e in expected)]


@pytest.mark.parametrize("name", ["compose.yaml", "dynamicconfig/cluster.yaml"])
def test_the_files_are_well_formed(name: str) -> None:
    assert yaml_complaints(FOLDER / name) == []


@pytest.mark.parametrize("text", ["a:\n  b: 1\n c: 2\n", "a:\n  b: 1\n  b: 2\n", "a: [1\n"])
def test_a_file_that_is_not_well_formed_would_be_noticed(text: str, tmp_path: Path) -> None:
    (tmp_path / "wrong.yaml").write_text(text)
    assert yaml_complaints(tmp_path / "wrong.yaml") != []


def test_every_published_port_is_on_the_loopback_address() -> None:
    published = re.findall(r"^    ports:\n((?:      - .*\n)+)", COMPOSE, re.MULTILINE)
    entries = [line.strip() for block in published for line in block.splitlines()]
    assert len(entries) == 2
    assert all(entry.startswith('- "127.0.0.1:') for entry in entries)


def test_every_image_has_a_version() -> None:
    images = re.findall(r"^    image: (.*)$", COMPOSE, re.MULTILINE)
    assert len(images) == 5
    assert all(re.fullmatch(r"[\w/-]+:\$\{\w+:-\d+(\.\d+)*\}", image) for image in images)


def test_every_file_the_containers_mount_is_there() -> None:
    mounted = re.findall(r"^      - \./([\w./-]+):", COMPOSE, re.MULTILINE)
    assert mounted
    assert [name for name in mounted if not (FOLDER / name).exists()] == []


def test_the_web_pages_do_not_offer_to_terminate() -> None:
    assert 'TEMPORAL_WORKFLOW_TERMINATE_DISABLED: "true"' in COMPOSE


def test_no_password_is_written_down() -> None:
    values = re.findall(r"(?:PASSWORD|PWD): (.*)$", COMPOSE, re.MULTILINE)
    assert len(values) == 3
    assert all(value.startswith("${HOLDFAST_POSTGRES_PASSWORD:?") for value in values)


@pytest.mark.parametrize("name", ["schema.sh", "bootstrap.sh"])
def test_the_scripts_are_shell(name: str) -> None:
    subprocess.run(["sh", "-n", str(FOLDER / name)], check=True)


@pytest.mark.temporal
def test_the_bootstrap_makes_a_namespace_ready_and_may_run_again(
    dev_server: DevServerAddress, child_environment: dict[str, str]
) -> None:
    temporal = find_temporal()
    environment = child_environment | {
        "PATH": os.pathsep.join([str(Path(temporal).parent), child_environment["PATH"]]),
        "TEMPORAL_ADDRESS": dev_server.grpc,
        "HOLDFAST_NAMESPACE": "bootstrapped",
        "HOLDFAST_RETENTION": "48h",
    }
    for _ in range(2):
        subprocess.run(["sh", str(FOLDER / "bootstrap.sh")], env=environment, check=True)
    command = [temporal, "operator", "search-attribute", "list", "--namespace", "bootstrapped"]
    listed = subprocess.run([*command, "-o", "json"], env=environment, capture_output=True, text=True, check=True)
    present = json.loads(listed.stdout)["customAttributes"]
    spelled = {name: kind.title().replace("_", "") for name, kind in declared_types().items()}
    assert {n: t.removeprefix("INDEXED_VALUE_TYPE_").title() for n, t in present.items()} == spelled

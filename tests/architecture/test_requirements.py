"""The pinned requirement files fit each other, pyproject.toml, and any package index."""

import re
import tomllib
from collections import defaultdict
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import holdfast
from scripts.environment import PROFILES
from tests.architecture import tree

PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", re.MULTILINE)
FILES = [path for path in tree.files(".txt") if path.startswith("requirements/")]


@pytest.mark.parametrize("path", FILES)
def test_a_requirement_file_holds_only_pins_and_hashes(path: str) -> None:
    lines = [line for line in tree.text(path).splitlines() if not line.startswith("#")]
    allowed = re.compile(r"[a-z0-9._-]+==\S+( ; .+)? \\|    --hash=sha256:[0-9a-f]{64}( \\)?")
    assert [line for line in lines if not allowed.fullmatch(line)] == []


def test_all_files_pin_the_same_version_of_a_package() -> None:
    versions: dict[str, set[str]] = defaultdict(set)
    for path in FILES:
        for name, version in PIN.findall(tree.text(path)):
            versions[name].add(version)
    assert {name: found for name, found in versions.items() if len(found) > 1} == {}


def test_every_declared_dependency_is_pinned_within_its_range() -> None:
    settings = project()
    declared: dict[str, list[str]] = {"runtime": settings["project"]["dependencies"]}
    declared |= settings["project"]["optional-dependencies"]
    declared |= settings["dependency-groups"]
    unmet = [
        f"requirements/{name}.txt: {requirement}"
        for name, requirements in declared.items()
        for requirement in map(Requirement, requirements)
        if not requirement.specifier.contains(pins(name).get(requirement.name, "0"))
    ]
    assert unmet == []


def test_every_file_belongs_to_a_profile() -> None:
    names = {path.removeprefix("requirements/").removesuffix(".txt") for path in FILES}
    assert names == {name for profile in PROFILES.values() for name in profile}


def test_the_package_knows_the_version_of_the_project() -> None:
    assert holdfast.__version__ == project()["project"]["version"]


def pins(name: str) -> dict[str, str]:
    found = PIN.findall(tree.text(f"requirements/{name}.txt"))
    return {canonicalize_name(package): version for package, version in found}


def project() -> dict[str, Any]:
    return tomllib.loads(tree.text("pyproject.toml"))

"""Folder names are safe on every file system and tell things of one name apart."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.model.ids import folder_name, is_folder_of, is_folder_of_id, is_machine_folder

SAFE = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*-[0-9a-f]{8}")


@pytest.mark.parametrize(
    "name, readable",
    [
        ("web01", "web01"),
        ("Web Server 01", "web-server-01"),
        ("../../etc/passwd", "etc-passwd"),
        ("--a--", "a"),
        ("", "machine"),
        ("数据库", "machine"),
        ("ÄPFEL", "pfel"),
        ("n" * 80, "n" * 40),
        ("n" * 39 + " tail", "n" * 39),
    ],
)
def test_the_readable_part_comes_from_the_name(name: str, readable: str) -> None:
    assert folder_name(name, "id") == f"{readable}-a5614527"


@given(st.text(), st.text())
def test_any_name_gives_a_safe_folder(name: str, identity: str) -> None:
    found = folder_name(name, identity)
    assert SAFE.fullmatch(found)
    assert len(found) <= 49
    assert folder_name(name, identity) == found


def test_things_of_one_name_have_different_folders() -> None:
    assert folder_name("web", "1") != folder_name("web", "2")


def test_the_name_of_a_folder_never_changes() -> None:
    # Folders that exist are found by this name; another rule would lose them.
    assert folder_name("Web Server 01", "42016b8e-0a7d") == "web-server-01-f5fd048a"


def test_a_folder_is_known_by_its_name() -> None:
    assert is_machine_folder(folder_name("Web Server 01", "id"))
    assert not is_machine_folder("000001-1a2b3c4d.hfc")
    assert not is_machine_folder("Web-1a2b3c4d")


@pytest.mark.parametrize(
    "machine, is_its", [("m1", True), ("Web 01", True), ("web-01", True), ("m2", False), ("web", False), ("", False)]
)
def test_a_folder_is_of_the_machine_with_its_id_and_of_those_with_its_name(machine: str, is_its: bool) -> None:
    assert is_folder_of(folder_name("web 01", "m1"), machine) is is_its


def test_a_folder_stays_that_of_an_id_whatever_the_name_is() -> None:
    assert is_folder_of_id(folder_name("www", "m1"), "m1")
    assert not is_folder_of_id(folder_name("m1", "m2"), "m1")

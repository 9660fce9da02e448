"""The tree speaks of the product alone: no path of one machine, no address of a package index."""

import re

from tests.architecture import tree

# Written in pieces, so that this file does not name what it looks for.
MACHINE_PATH = re.compile(r"(?<![\w.~}])/(?:" + "|".join(("work", "root", "Users")) + r")/\w")
INDEX_HOSTS = (
    "pypi" + ".org",
    "pythonhosted" + ".org",
    "proxy" + ".golang.org",
    "registry" + ".npmjs.org",
    "deb" + ".debian.org",
)

# Data whose bytes are not ours to word.
DATA = ("tests/golden/", "tests/histories/")


def test_no_file_names_a_path_of_one_machine() -> None:
    found = [f"{path}: {match.group()}" for path in words() for match in MACHINE_PATH.finditer(tree.text(path))]
    assert found == []


def test_no_file_names_a_package_index() -> None:
    found = [f"{p}: {host}" for p in words() for host in INDEX_HOSTS if host in tree.text(p)]
    assert found == []


def words() -> list[str]:
    return [path for path in tree.files() if not path.startswith(DATA)]

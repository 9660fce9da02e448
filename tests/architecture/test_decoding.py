"""No type is decoded for the first time by threads that run at the same time: that would kill the process."""

import ast

from tests.architecture import tree

OURS = ("holdfast/", "activities/", "workflows/", "workers/")
# It learns a type under a lock; settings are read before there are threads, and results are learnt with their module.
CONVERTED = ("holdfast/decoding.py", "holdfast/formats/contents.py", "workers/config.py", "workflows/failures.py")


def calls(path: str) -> list[tuple[str, ast.Call]]:
    """Return the calls of a function of the library, each with the function's name."""
    nodes = [node for node in ast.walk(ast.parse(tree.text(path))) if isinstance(node, ast.Call)]
    return [(name, node) for node in nodes if (name := ast.unparse(node.func)).startswith("msgspec.")]


def test_nothing_is_decoded_as_a_type_that_is_named_there() -> None:
    found = [
        f"{path}:{call.lineno}: {name}"
        for path in tree.files()
        if path.startswith(OURS) and path.endswith(".py")
        for name, call in calls(path)
        if (name.endswith(".decode") and any(word.arg == "type" for word in call.keywords))
        or (name == "msgspec.convert" and path not in CONVERTED)
    ]
    assert found == []

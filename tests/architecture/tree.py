"""The tree as the tidy tests see it: which files there are, and what they contain."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("holdfast", "workflows", "activities", "workers")

# Made by tools. Folders whose names begin with a dot are left out too, except the one of CI.
GENERATED = {"__pycache__", "build", "dist", "node_modules"}

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def files(*suffixes: str) -> tuple[str, ...]:
    """Return the paths of the tree's files, relative to its root; all files without suffixes."""
    return tuple(sorted(path for path in walk(ROOT) if not suffixes or path.endswith(suffixes)))


def walk(folder: Path) -> Iterator[str]:
    """Yield the files below a folder that belong to the project."""
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            hidden = entry.name.startswith(".") and entry.name != ".ci"
            if not hidden and entry.name not in GENERATED:
                yield from walk(entry)
        elif entry.is_file() and entry.name not in {".coverage", ".git", ".venv.lock"}:
            yield entry.relative_to(ROOT).as_posix()


def python_files(*folders: str) -> list[str]:
    """Return the Python files below some top-level folders; of the whole tree without any."""
    return [path for path in files(".py") if not folders or path.split("/")[0] in folders]


@cache
def text(path: str) -> str:
    """Return a file's text; bytes that are not UTF-8 become replacement marks."""
    return (ROOT / path).read_text(encoding="utf-8", errors="replace")


@cache
def module(path: str) -> ast.Module:
    """Return a Python file's syntax tree."""
    return ast.parse(text(path), filename=path)


def functions(path: str) -> Iterator[FunctionNode]:
    """Yield every function and method of a Python file."""
    for node in ast.walk(module(path)):
        if isinstance(node, FunctionNode):
            yield node


def has_body(function: FunctionNode) -> bool:
    """Tell whether a function does something; protocol methods and contract stubs do not."""
    statements = [s for s in function.body if not is_constant(s)]
    return bool(statements)


def is_constant(statement: ast.stmt) -> bool:
    """Tell whether a statement is a docstring or an ellipsis."""
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)

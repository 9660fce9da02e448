"""Write docs/reference/errors.md from holdfast/errors.py.

Usage: .venv/bin/python -m scripts.errors_table
"""

from pathlib import Path

from holdfast.errors import HoldfastError, error_classes

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "errors.md"

UNFORESEEN = "Something happened that nobody foresaw."

HEAD = """\
# Errors

Every error carries a code that never changes its meaning; scripts and alerts can rely on it.
The command line ends with the exit status of the error.
A session retries what is retryable by itself; such an error is shown when that did not help.

This page is generated from `holdfast/errors.py` by `scripts/errors_table.py`.

| Code | Exit status | Retryable | Meaning | Hint |
|---|---|---|---|---|
"""


def page() -> str:
    """Return the whole page, one row per error, in the order of the exit statuses."""
    rows = sorted(error_classes(), key=lambda error: error.exit_status)
    return HEAD + "".join(map(row, rows))


def row(error: type[HoldfastError]) -> str:
    """Return the line of one error."""
    retryable = "yes" if error.retryable else "no"
    # The root says to developers what it is; users meet it only when nobody foresaw the case.
    meaning = UNFORESEEN if error is HoldfastError else error.__doc__
    return f"| `{error.code}` | {error.exit_status} | {retryable} | {meaning} | {error.default_hint} |\n"


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page())

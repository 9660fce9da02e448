"""Words that sessions, pages and the command line have in common."""


def count_text(number: int, noun: str) -> str:
    """Return how many there are, such as ``1 point`` and ``2 points``."""
    return f"{number} {noun}" + ("" if number == 1 else "s")

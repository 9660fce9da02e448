"""Bounds from above on how long something takes: on a host that others use, too, they hold in one of a few tries."""

from collections.abc import Callable
from functools import wraps
from typing import Any

_TRIES = 3


class Late(AssertionError):
    """Something took longer than it should, which the host may have done."""


def expect_by(took_s: float, most_s: float, what: str = "it") -> None:
    """Raise `Late` when something took longer than that."""
    if took_s > most_s:
        raise Late(f"{what} took {took_s:.2f} s instead of {most_s:.2f} s at most")


def tried_again(test: Callable[..., None]) -> Callable[..., None]:
    """Repeat a test that was late, each time in another folder; anything else that fails fails at once."""

    @wraps(test)
    def trying(**given: Any) -> None:
        for number in range(1, _TRIES + 1):
            if "tmp_path" in given:
                folder = given["tmp_path"] / f"try-{number}"
                folder.mkdir()
                arguments = given | {"tmp_path": folder}
            else:
                arguments = given
            try:
                return test(**arguments)
            except Late:
                if number == _TRIES:
                    raise
        return None

    return trying

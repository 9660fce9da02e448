"""How a command ends without success when it has more to tell than an error."""

from holdfast.errors import HoldfastError


class CommandFailed(Exception):
    """Ends the command with the exit status of ``error``.

    ``document`` is the whole JSON document; ``is_told`` says that a person has read about it already.
    """

    def __init__(self, error: HoldfastError, document: dict[str, object], *, is_told: bool = False) -> None:
        super().__init__(error.message)
        self.error = error
        self.document = document
        self.is_told = is_told

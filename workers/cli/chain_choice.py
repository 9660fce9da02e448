"""Which chains a command is about: those of a repository by name or machine, or a folder found on any disk."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
import typer

from holdfast.errors import HoldfastError, PassphraseWrong, PointNotFound, RequestInvalid
from holdfast.model.ids import CredentialName, is_folder_of
from holdfast.storage.chains.chain import Chain
from holdfast.storage.chains.owning import seen_by, shown_owner
from holdfast.storage.tools.chain_survey import is_chain_folder
from workers.cli.invocation import Invocation
from workers.cli.reading import passphrases_for

ChainArgument = Annotated[
    str | None,
    typer.Argument(metavar="CHAIN", help="Chain, as `points --json` names it, or a folder that holds one."),
]
MachineOption = Annotated[
    str | None, typer.Option("--machine", "-m", metavar="NAME", help="The chains of this machine; id or name.")
]
RepositoryOption = Annotated[
    str | None, typer.Option("--repository", "-r", metavar="NAME", help="Repository; needed when there are several.")
]
CredentialOption = Annotated[
    str | None, typer.Option("--credential", metavar="NAME", help="Name of the passphrase of encrypted chains.")
]

T = TypeVar("T")


class ChosenChain(msgspec.Struct, frozen=True, kw_only=True):
    """A chain, what it is called, and what may open it."""

    name: str
    folder: Path
    passphrases: tuple[str, ...] = ()

    def with_passphrase(self, use: Callable[[str | None], T]) -> T:
        """Return what ``use`` gives without a passphrase, or with the first that opens the chain.

        Raises `PassphraseWrong` when none does.
        """
        tried: list[str | None] = [None, *self.passphrases]
        while True:
            passphrase = tried.pop(0)
            try:
                return use(passphrase)
            except PassphraseWrong as error:
                if not tried:
                    error.hint = "Name the credential with the passphrase it was created with: `--credential NAME`."
                    raise


def chosen_chains(
    run: Invocation, chain: str | None, machine: str | None, repository: str | None, credential: str | None
) -> list[ChosenChain]:
    """Return the chains that are meant, oldest first; all of the repository when nothing is named.

    Raises `RequestInvalid` for a chain that is not there, and `PointNotFound` for a machine that has none.
    """
    if chain is not None and repository is None and Path(chain).is_dir():
        return [found_chain(run, Path(chain), credential)]
    settings = run.repository_settings(repository)
    opened = run.repository(settings)
    passphrases = tuple(passphrases_for(run, settings, credential))
    folders = opened.chain_folders() if chain is None else [opened.chain_folder(chain)]
    found = [
        ChosenChain(name=opened.relative(folder), folder=folder, passphrases=passphrases)
        for folder in folders
        if opened.files.exists(folder) and is_chain_folder(opened.files, folder)
    ]
    if chain is not None and not found:
        hint = "`holdfast chain show` lists the chains of the repository."
        raise RequestInvalid(f"repository {settings.name} has no chain {chain}", hint=hint)
    if machine is None:
        return found
    mine = [candidate for candidate in found if _is_of(run, candidate, machine)]
    if not mine:
        raise PointNotFound(f"repository {settings.name} has no chain of machine {machine}")
    return mine


def found_chain(run: Invocation, folder: Path, credential: str | None) -> ChosenChain:
    """Return the chain in a folder that may belong to no repository. Raises `RequestInvalid`, `CredentialMissing`."""
    if not folder.is_dir() or not is_chain_folder(run.files, folder):
        raise RequestInvalid(f"{folder} holds no chain", hint="Name the folder with the chain's `*.hfc` files.")
    named = None if credential is None else run.settings.credentials.passphrase(CredentialName(credential))
    return ChosenChain(name=str(folder), folder=folder, passphrases=() if named is None else (named,))


def _is_of(run: Invocation, chain: ChosenChain, machine: str) -> bool:
    """Return whether a chain has points of a machine.

    One that cannot be read is told and passed over, unless it is in a folder of that machine.
    """

    def machines(passphrase: str | None) -> set[str]:
        with Chain.open(run.files, chain.folder, passphrase) as opened:
            owner = shown_owner(run.files, opened)
            found = [seen_by(point, owner).machine for _, point in opened.points()]
        return {name for seen in found for name in (seen.machine_id, seen.name)}

    try:
        return machine in chain.with_passphrase(machines)
    except HoldfastError as error:
        if is_folder_of(chain.folder.parent.name, machine):
            return True
        run.warn(f"chain {chain.name}: {error.message}")
        return False

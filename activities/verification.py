"""Checks the chains of a repository one after the other; a chain that cannot be opened is damage, not an end.

Only what no check can get past is raised: a missing or wrong passphrase, and storage that is not there.
"""

from collections.abc import Callable, Sequence

import msgspec

from holdfast.errors import DataError, PassphraseWrong
from holdfast.model.ids import DiskKey
from holdfast.model.points import Damage, VerifyReport
from holdfast.storage.chain import Chain, chain_file_names
from holdfast.storage.metadata import METADATA_NAME, check_against_metadata, check_links, read_metadata
from holdfast.storage.repository import Repository
from holdfast.storage.verifier import verify_chain

DAMAGES_NAMED_MAX = 50
"""Damaged spans that a report names; a report travels in heartbeats and histories, so more are only counted."""

_METADATA_READS = 2


def chains_to_verify(repository: Repository, chain: str | None) -> list[str]:
    """Return ``chain`` alone, or all chains that hold any file when it is None."""
    if chain is not None:
        repository.chain_folder(chain)  # refuses a name that leads out of the repository
        return [chain]
    folders = repository.chain_folders()
    return [repository.relative(folder) for folder in folders if chain_file_names(repository.files, folder)]


def joined(left: VerifyReport, right: VerifyReport) -> VerifyReport:
    """Return the report of both."""
    damages = left.damages + right.damages
    return VerifyReport(
        chains=left.chains + right.chains,
        points=left.points + right.points,
        units=left.units + right.units,
        stored_bytes=left.stored_bytes + right.stored_bytes,
        damages=damages[:DAMAGES_NAMED_MAX],
        unnamed_damages=left.unnamed_damages + right.unnamed_damages + len(damages[DAMAGES_NAMED_MAX:]),
    )


class ChainCheck:
    """The check of one chain, of all its points or of those with the given machine and numbers."""

    def __init__(
        self,
        repository: Repository,
        chain: str,
        passphrase: str | None,
        machine: str | None = None,
        numbers: Sequence[int] = (),
    ) -> None:
        self._repository = repository
        self._chain = chain
        self._passphrase = passphrase
        self._machine = machine
        self._numbers = numbers

    def run(self, report: Callable[[int], None]) -> VerifyReport:
        """Return what is damaged; ``report`` gets the stored bytes checked so far."""
        try:
            found = self._links()
            with self._repository.open_chain(self._chain, self._passphrase) as chain:
                numbers = self._wanted(chain)
                if numbers == [] or not chain.files:
                    return VerifyReport(chains=0)
                checked = verify_chain(chain, report, numbers=numbers)
        except PassphraseWrong:
            raise
        except DataError as error:
            return VerifyReport(damages=(self._damage("", error.message),))
        damages = tuple(msgspec.structs.replace(damage, chain=self._chain) for damage in checked.damages)
        return joined(VerifyReport(chains=0, damages=found), msgspec.structs.replace(checked, damages=damages))

    def _links(self) -> tuple[Damage, ...]:
        """Compare the files with each other and with the chain's metadata.

        A session may finish a point between the reading of the files and that of the metadata; what does not fit then
        fits at a second look.
        """
        for attempt in range(_METADATA_READS):
            with self._repository.open_chain(self._chain, self._passphrase) as chain:
                if not chain.files or chain.unreadable:
                    return ()  # nothing was ever committed, or the check of the points names what is missing
                try:
                    self._compare(chain)
                except DataError as error:
                    if attempt + 1 == _METADATA_READS:
                        return (self._damage(METADATA_NAME, error.message),)
                else:
                    break
        return ()

    def _compare(self, chain: Chain) -> None:
        metadata = read_metadata(self._repository.files, chain.folder, chain.files[0].keys)
        if metadata is None:
            check_links(chain)
        else:
            check_against_metadata(chain, metadata)

    def _wanted(self, chain: Chain) -> list[int] | None:
        if self._machine is None:
            return list(self._numbers) or None
        numbers = [
            point.number
            for _, point in chain.points()
            if self._machine in {point.machine.machine_id, point.machine.name}
        ]
        return [number for number in numbers if not self._numbers or number in self._numbers]

    def _damage(self, file: str, reason: str) -> Damage:
        return Damage(
            chain=self._chain,
            point=0,
            machine=self._machine or "",
            disk=DiskKey(""),
            offset=0,
            length=0,
            file=file,
            reason=reason,
        )

"""``holdfast prove``: signed statements of what a restore point holds, made and checked without Temporal."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from holdfast import __version__
from holdfast.errors import DataDamaged, FormatUnknown, ProofContradicted, RequestInvalid
from holdfast.formats.proof import (
    PROOF_SIZE_MAX,
    Proof,
    Statement,
    check_signature,
    decode_proof,
    encode_proof,
    fingerprint,
)
from holdfast.storage.chains.chain import Chain
from holdfast.storage.tools.proving import GOOD, ProofCheck, check_statement, make_statement
from workers.cli import wording
from workers.cli.chain_choice import CredentialOption, RepositoryOption, chosen_chains
from workers.cli.commands import PROTECT, command, family
from workers.cli.failure import CommandFailed
from workers.cli.invocation import Invocation, error_document
from workers.cli.pace import Pace
from workers.cli.reading import find_listed, open_chain, passphrases_for, read_points
from workers.cli.tables import facts_table
from workers.part_file import PartFile
from workers.proof_keys import ProofKeys, read_public


def register(app: typer.Typer) -> None:
    """Add the commands."""
    members = family(app, "prove", panel=PROTECT, help_line="Prove what a restore point holds, and check proofs.")
    command(
        members,
        "point",
        examples=(
            ("prove point latest --machine web01", "read the newest point, and sign what it holds"),
            ("prove point 1f2e3d --to audit/web01.json", "into a file of this name"),
        ),
    )(point)
    command(
        members,
        "check",
        examples=(
            ("prove check web01.json --key proof.pub", "was this signed, and as it stands"),
            ("prove check web01.json --key proof.pub --chain /mnt/shelf/000001-9f8e7d6c", "and does the chain hold it"),
        ),
    )(check)
    command(members, "keygen", examples=(("prove keygen", "once for an installation"),))(keygen)


def keygen(run: Invocation) -> None:
    """Make the key with which this installation signs proofs.

    The private key is `proof.key` in the home of the installation. Give `proof.pub` to who checks proofs, and tell its
    fingerprint over a way that they trust.
    """
    keys = ProofKeys(run.settings.home, run.files)
    mark = fingerprint(keys.make())
    document = {"private": keys.private_path, "public": keys.public_path, "fingerprint": mark}
    run.show(document, f"{keys.public_path} is the public key, its fingerprint is {mark}")


def point(
    run: Invocation,
    reference: Annotated[str, typer.Argument(metavar="POINT", help="First digits of a point's id, or `latest`.")],
    *,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FILE", help="Default: proof-POINT.json in this folder.")
    ] = None,
    machine: Annotated[str | None, typer.Option("--machine", "-m", metavar="NAME", help="Id or name.")] = None,
    repository: RepositoryOption = None,
    credential: CredentialOption = None,
) -> None:
    """Read every stored byte of a restore point, and sign a statement of what it holds and how it was found.

    The statement names the point, the roots of its disks, the chain files with their SHA-256, the ids of keys, and the
    result of the reading; docs/formats/proof.md has every member. A damaged point gets a statement that says so, and
    the command fails.
    """
    key = ProofKeys(run.settings.home, run.files).private()
    settings = run.repository_settings(repository)
    listed, unreadable = read_points(run, settings, credential, machine)
    for broken in unreadable:
        run.warn(f"chain {broken.chain} of {broken.repository}: {broken.error.message}")
    chosen = find_listed(listed, reference, unreadable, machine)
    target = to if to is not None else Path(f"proof-{chosen.reference}.json")
    with (
        PartFile(target) as part,
        open_chain(run.repository(settings), chosen.chain, passphrases_for(run, settings, credential)) as chain,
    ):
        pace = Pace(run, f"reading point {chosen.reference}")
        made = make_statement(chain, chosen.point.number, pace, run.clock.now(), f"holdfast {__version__}")
        part.write(encode_proof(made, key))
        part.publish(part.path)
    document = {"file": target, "key": fingerprint(key.public_key()), "statement": made}
    if made.reading.result == GOOD:
        run.show(document, _facts(made), f"the proof is in {target}")
        return
    error = DataDamaged(f"point {chosen.reference} is damaged, and the proof in {target} says so")
    if not run.flags.json:
        run.show(None, _facts(made))
    raise CommandFailed(error, document | error_document(error))


def check(
    run: Invocation,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The proof.")],
    *,
    key: Annotated[
        Path | None, typer.Option("--key", metavar="FILE", help="The public key; default: that of this installation.")
    ] = None,
    chain: Annotated[
        str | None, typer.Option("--chain", metavar="CHAIN", help="Read this chain or folder, and compare.")
    ] = None,
    repository: RepositoryOption = None,
    credential: CredentialOption = None,
) -> None:
    """Check a proof: was it signed by this key, as it stands, and, with the chain at hand, does the chain hold it.

    Nothing but the public key is needed. With `--chain` every stored byte of the point is read again, its roots are
    computed anew and compared. Files of the chain may have changed by merges since; the roots may not.
    """
    proof = _read(file)
    keys = ProofKeys(run.settings.home, run.files)
    if key is None and not keys.has_public():
        hint = "Name the public key of who made the proof: `--key FILE`."
        raise RequestInvalid("there is no key to check the proof with", hint=hint)
    check_signature(proof, keys.public() if key is None else read_public(key))
    made = proof.statement
    document: dict[str, object] = {"key": proof.key, "signed": True, "statement": made}
    lines: list[str | Text] = [Text.assemble(("signed", "green"), f" by key {proof.key}")]
    if chain is None:
        run.show(document, _facts(made), *lines)
        return
    found = _compared(run, made, chain, repository, credential)
    document["chain"] = found
    lines.append(f"files as stated: {', '.join(found.files_as_stated) or 'none'}")
    if found.files_changed:
        lines.append(f"files changed since, or gone: {', '.join(found.files_changed)}")
    if not found.contradictions:
        held = Text.assemble(("held", "green"), ": the chain holds what the proof says")
        run.show(document, _facts(made), *lines, held)
        return
    if not run.flags.json:
        problems = [Text.assemble(("problem", "red"), f": {words}") for words in found.contradictions]
        run.show(None, _facts(made), *lines, *problems)
    error = ProofContradicted(f"the chain does not hold what {file} says: {found.contradictions[0]}")
    raise CommandFailed(error, document | error_document(error))


def _read(file: Path) -> Proof:
    """Return the proof in a file, at most as large as one may be. Raises `RequestInvalid`, and errors of the format."""
    try:
        with file.open("rb") as stream:
            data = stream.read(PROOF_SIZE_MAX + 1)
    except OSError as error:
        raise RequestInvalid(f"{file}: {error.strerror}") from error
    try:
        return decode_proof(data)
    except FormatUnknown as error:
        raise FormatUnknown(f"{file}: {error.message}") from error


def _compared(
    run: Invocation, made: Statement, chain: str, repository: str | None, credential: str | None
) -> ProofCheck:
    (chosen,) = chosen_chains(run, chain, None, repository, credential)
    pace = Pace(run, f"reading point {made.point.number} of {chosen.name}")
    with chosen.with_passphrase(partial(Chain.open, run.files, chosen.folder)) as opened:
        return check_statement(opened, made, pace)


def _facts(made: Statement) -> Table:
    table = facts_table()
    point_made = made.point
    table.add_row("point", f"{point_made.id}, number {point_made.number} of chain {made.chain}")
    table.add_row("machine", f"{point_made.machine_name} ({point_made.machine})")
    table.add_row("created", f"{wording.moment(point_made.created)}, {point_made.consistency} consistent")
    table.add_row("root", point_made.root)
    for disk in point_made.disks:
        table.add_row(f"disk {disk.key}", f"{wording.size(disk.size)}, root {disk.root}")
    table.add_row("files", f"{wording.count(len(made.files), 'chain file')}, cipher {made.cipher}")
    reading = made.reading
    read = f"{wording.size(reading.stored_bytes)} in {wording.count(reading.units, 'unit')} read"
    table.add_row("found", f"{reading.result}: {read}, {wording.count(reading.damages, 'damaged place')}")
    table.add_row("stated", f"{wording.moment(made.made)} by {made.software}")
    return table

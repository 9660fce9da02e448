"""``holdfast certs``: the certificates by which data movers on several hosts know each other."""

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from holdfast.mover.certificates import CertificateFacts
from workers.certificate_folder import AUTHORITY, CertificateFolder, Issued
from workers.cli.commands import RUN, command
from workers.cli.invocation import Invocation

_TOLD_FOLDER = "tls"
"""Folder beside the configuration file in which the lines that are printed look for the copies."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(
        app,
        "certs",
        panel=RUN,
        examples=(
            (
                "certs repo-a --address 10.0.0.5 --address repo-a.example",
                "for a worker that is reached at two addresses",
            ),
            ("certs proxy-a proxy-b --to /safe/certs", "for two workers that are reached by these names, or by none"),
            ("certs repo-a --renew", "another one with the same addresses; the old one is kept aside"),
        ),
    )(certs)


def certs(
    run: Invocation,
    names: Annotated[
        list[str], typer.Argument(metavar="NAME", help="Workers, one certificate each; also the names of the files.")
    ],
    *,
    folder: Annotated[
        Path, typer.Option("--to", metavar="FOLDER", help="Folder of the authority and what it signs.")
    ] = Path("certs"),
    addresses: Annotated[
        list[str] | None,
        typer.Option(
            "--address",
            "-a",
            metavar="ADDRESS",
            help="Host name or IP address at which others reach the worker; may be repeated. Without: its name.",
        ),
    ] = None,
    renew: Annotated[bool, typer.Option("--renew", help="Make it anew and keep the old files aside.")] = False,
) -> None:
    """Make the certificates by which data movers on several hosts know each other.

    The first call makes an authority in the folder: ca.pem, which every worker gets, and ca.key, which no worker
    needs; keep it where you would keep a root password. Every call makes NAME.pem and NAME.key for each NAME, good
    for two years, and says what to copy where. Nothing is ever overwritten.

    Workers on one host need no certificates.
    """
    place = CertificateFolder(folder.absolute(), run.files, run.clock)
    orders = place.planned(names, addresses or (), renew=renew)
    is_new = not place.has_authority()
    authority = place.authority()
    issued = [place.carry_out(order) for order in orders]
    document = {
        "authority": {
            "certificate": place.folder / f"{AUTHORITY}.pem",
            "key": place.folder / f"{AUTHORITY}.key",
            "made": is_new,
            "facts": authority.facts,
        },
        "certificates": [_documented(one) for one in issued],
    }
    made = [_authority_line(place, authority.facts)] if is_new else []
    run.show(document, Text("\n").join([*made, *(_told(place, one) for one in issued)]))


def _documented(one: Issued) -> dict[str, object]:
    return {
        "name": one.name,
        "certificate": one.certificate,
        "key": one.key,
        "facts": one.facts,
        "kept_as": one.kept_as,
        "configuration": _configuration(one),
    }


def _authority_line(place: CertificateFolder, facts: CertificateFacts) -> Text:
    key = place.folder / f"{AUTHORITY}.key"
    return Text(f"a new authority, until {facts.ends_at:%Y-%m-%d}; {key} stays off the workers, keep it safe\n")


def _told(place: CertificateFolder, one: Issued) -> Text:
    """Return what a person needs to know of a certificate and has to do with it."""
    files = (place.folder / f"{AUTHORITY}.pem", one.certificate, one.key)
    what_to_do = "\n".join(
        [
            f" for {', '.join(one.facts.addresses)}, until {one.facts.ends_at:%Y-%m-%d}",
            *(f"  the old one is kept as {path}" for path in one.kept_as),
            f"  copy into the folder {_TOLD_FOLDER} beside the worker's holdfast.toml:",
            *(f"    {path}" for path in files),
            "  and write into that holdfast.toml:",
            *(f"    {line}" for line in _configuration(one).splitlines()),
            "",
        ]
    )
    return Text.assemble((one.name, "bold"), what_to_do)


def _configuration(one: Issued) -> str:
    """Return the table of the configuration, with paths that are relative to its file."""
    lines = {"ca_file": f"{AUTHORITY}.pem", "certificate": one.certificate.name, "key": one.key.name}
    return "".join(["[mover]\n", *(f'{key} = "{_TOLD_FOLDER}/{name}"\n' for key, name in lines.items())])

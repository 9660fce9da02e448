"""A PostgreSQL server of the test session, reached by a socket in a folder of its own."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import URL, create_engine, text

from holdfast.catalog.connection import parse_address

PASSWORD = "s3cret/with:signs@"
USER = "holdfast"


class Server(NamedTuple):
    """Where the server listens. Every test takes a database of its own."""

    socket_folder: Path

    def address(self, database: str, password: str = PASSWORD) -> str:
        query = {"host": str(self.socket_folder)}
        url = URL.create("postgresql", USER, password, database=database, query=query)
        return url.render_as_string(hide_password=False)

    @contextmanager
    def database(self, name: str) -> Iterator[str]:
        """Make a database for a block and drop it afterwards."""
        run_statement(self.address("postgres"), f'CREATE DATABASE "{name}"')
        try:
            yield self.address(name)
        finally:
            run_statement(self.address("postgres"), f'DROP DATABASE "{name}" WITH (FORCE)')


def run_statement(address: str, statement: str) -> None:
    """Run one statement on a connection of its own, outside of any transaction."""
    engine = create_engine(parse_address(address), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))
    engine.dispose()


@contextmanager
def running_server(programs: Path) -> Iterator[Server]:
    """Start a server with the programs of this folder, stop it and remove its data at the end."""
    # Not a folder of pytest: the server runs as a user who may not enter those.
    folder = Path(tempfile.mkdtemp(prefix="holdfast-pg-"))
    passphrase = folder / "password"
    passphrase.write_text(PASSWORD)
    user = unprivileged_user()
    if user is not None:
        for path in (folder, passphrase):
            shutil.chown(path, user)

    def run(program: str, *arguments: str) -> None:
        subprocess.run(
            [programs / program, "--pgdata", folder / "data", *arguments],
            user=user,
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
        )

    options = f"-k {folder} -c listen_addresses='' -c fsync=off"
    try:
        run("initdb", "--username", USER, "--pwfile", str(passphrase), "--auth=scram-sha-256",
            "--encoding=UTF8", "--no-locale", "--no-sync")  # fmt: skip
        run("pg_ctl", "start", "--wait", "--log", str(folder / "log"), "--options", options)
        try:
            yield Server(folder)
        finally:
            run("pg_ctl", "stop", "--wait", "--mode=immediate")
    finally:
        shutil.rmtree(folder)


def unprivileged_user() -> str | None:
    """Return whom to start the server as, because it refuses root; None for the present user."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"

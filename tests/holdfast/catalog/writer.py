"""A process that writes sessions: ``python -m <this module> ADDRESS NAME COUNT``.

Prints ``ready``, waits for a line, opens the catalog, and prints the id of every session after its
commit.
"""

import sys

import msgspec

from holdfast.catalog.database import Catalog
from holdfast.clock import SystemClock
from holdfast.model.ids import SessionId
from tests.holdfast.catalog.samples import SESSION, TASK


def main(address: str, name: str, sessions: int) -> None:
    print("ready", flush=True)  # noqa: T201 - how it talks to the test
    sys.stdin.readline()
    with Catalog.open(address, SystemClock()) as catalog:
        for number in range(sessions):
            session_id = SessionId(f"{name}-{number}")
            catalog.sessions.begin(msgspec.structs.replace(SESSION, session_id=session_id))
            catalog.sessions.record_task(msgspec.structs.replace(TASK, session_id=session_id))
            catalog.sessions.add_note(session_id, f"note {number}")
            print(session_id, flush=True)  # noqa: T201 - as above


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))

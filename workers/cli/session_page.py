"""The report of a session as one page for a browser: what `sessions show` says, and pictures of its chains.

Temporal's pages show Markdown of a bounded length, in which a picture would have to be fetched from somewhere else; so
the pictures stand in a file that needs nothing beside it and can be kept or sent.
"""

from collections.abc import Sequence
from functools import partial
from html import escape
from io import StringIO
from typing import Final

from rich.console import Console, RenderableType

from holdfast.catalog.database import Catalog
from holdfast.errors import HoldfastError
from holdfast.model.chain_view import ChainView
from holdfast.model.session import Session, Task
from holdfast.storage.tools.chain_survey import look_at_chain
from workers.cli.chain_choice import chosen_chains
from workers.cli.chain_svg import chain_svg
from workers.cli.invocation import Invocation
from workers.cli.tables import put

CHAINS_MAX: Final = 50
"""How many chains a page shows; a session may have thousands of machines."""
_WIDTH: Final = 180
_STYLE: Final = (
    "body { margin: 24px; font-family: system-ui, sans-serif; } pre { overflow-x: auto; } "
    "svg { max-width: 100%; height: auto; }"
)


def session_page(session: Session, parts: Sequence[RenderableType], views: Sequence[ChainView]) -> str:
    """Return a page with the report of a session, as it is shown in a terminal, and pictures of chains."""
    console = Console(record=True, file=StringIO(), width=_WIDTH, force_terminal=True, highlight=False)
    for part in parts:
        put(console, part)
    title = escape(f"{session.kind.value} {session.job}, session {session.session_id}")
    said = console.export_html(inline_styles=True, code_format="{code}")
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">',
            f'<meta name="color-scheme" content="light dark"><title>{title}</title><style>{_STYLE}</style></head>',
            f"<body><h1>{title}</h1>",
            f"<pre><code>{said}</code></pre>",
            chain_svg(views) if views else "<p>No chain of this session can be shown.</p>",
            "</body></html>",
            "",
        ]
    )


def chains_of(
    run: Invocation, catalog: Catalog, session: Session, tasks: Sequence[Task], credential: str | None
) -> list[ChainView]:
    """Return the chains that hold the points of a session; of a machine without any its newest chain.

    What cannot be looked at from this host is told and passed over.
    """
    names: dict[str, None] = {}
    for machine in dict.fromkeys(task.machine_id for task in tasks):
        points = catalog.points.list(machine=machine, repository=session.repository)
        mine = [point for point in points if point.session_id == session.session_id]
        names |= dict.fromkeys(point.chain for point in mine or points[:1])
    if len(names) > CHAINS_MAX:
        run.warn(f"the page shows {CHAINS_MAX} of {len(names)} chains")
    views = []
    for name in list(names)[:CHAINS_MAX]:
        try:
            [chosen] = chosen_chains(run, name, None, session.repository, credential)
            views.append(chosen.with_passphrase(partial(look_at_chain, run.files, chosen.folder, chosen.name)))
        except HoldfastError as error:
            run.warn(f"chain {name} is not in the page: {error.message}")
    return views

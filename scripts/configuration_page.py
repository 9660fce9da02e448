"""Write docs/reference/configuration.md from the structs of the configuration.

Usage: .venv/bin/python -m scripts.configuration_page
"""

import ast
import inspect
import re
import textwrap
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import msgspec

from workers.config import ProxySettings, Settings
from workers.job_settings import JobSettings
from workers.mover_settings import MoverSettings
from workers.provider_settings import KIND_DEFAULT, KINDS, DatastoreLatencySettings
from workers.repository_settings import RepositorySettings
from workers.retention_settings import RetentionSettings
from workers.telemetry_settings import TelemetrySettings
from workers.temporal_settings import PayloadKeyFile, TemporalSettings, TlsFiles
from workers.throttling_settings import ThrottlingSettings

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "configuration.md"

TABLES: dict[type[msgspec.Struct], str] = {
    Settings: "Outside any table",
    TemporalSettings: "`[temporal]`",
    TlsFiles: "`[temporal.tls]`",
    PayloadKeyFile: "`[[temporal.payload_keys]]`",
    TelemetrySettings: "`[telemetry]`",
    **{struct: f"`[[providers]]` of kind `{kind}`" for kind, struct in KINDS.items()},
    DatastoreLatencySettings: "`[providers.latency_by_datastore.NAME]` of kind `vsphere`",
    RepositorySettings: "`[[repositories]]`",
    MoverSettings: "`[mover]`",
    ProxySettings: "`[[proxies]]`",
    ThrottlingSettings: "`[[throttling]]`",
    JobSettings: "`[[jobs]]`",
    RetentionSettings: "`[jobs.retention]`",
}

# What the structs themselves leave to the name of the key.
PLAIN_KEYS = {
    (TemporalSettings, "namespace"): "Namespace on the server.",
    (TelemetrySettings, "service_name"): "Name under which traces and metrics appear.",
    (TlsFiles, "key"): "Our private key, with `certificate`.",
    (PayloadKeyFile, "file"): "Where the key is.",
}

HEAD = """\
# Configuration

The configuration is one TOML file.
It is looked for in this order, and the first one found is used alone:

1. the file given with `--config`,
2. the file that the variable `HOLDFAST_CONFIG` names,
3. `holdfast.toml` in the folder the program was started in,
4. `holdfast.toml` in the home folder: `HOLDFAST_HOME`, else `~/.holdfast`.

Paths are relative to the file they stand in; `~` is the user's folder.
An unknown key, a wrong type, a name used twice or a reference to something that is not there is an error that names file and key.
`temporal-dev/holdfast.toml` is a sample.

| Variable | Meaning |
|---|---|
| `HOLDFAST_CONFIG` | the configuration file |
| `HOLDFAST_HOME` | the home folder, unless the file says otherwise |
| `TEMPORAL_ADDRESS` | overrides `temporal.address` |
| `TEMPORAL_NAMESPACE` | overrides `temporal.namespace` |
| `NO_COLOR` | prints without colours |

Nothing secret stands in the file.
The passphrase or password called *name* is the one line of the file `credentials/name` in the home folder; the file has to be readable by its owner alone (`chmod 600`).

This page is generated from `workers/config.py` and its neighbours by `scripts/configuration_page.py`.
"""  # noqa: E501 - one sentence per line


def page() -> str:
    """Return the whole page, one section for each table."""
    return HEAD + "".join(section(struct, title) for struct, title in TABLES.items())


def section(struct: type[msgspec.Struct], title: str) -> str:
    """Return the section of one table."""
    about = inspect.getdoc(struct) or ""
    # The title says which table it is.
    sentence = re.sub(
        r"^(?:One|The) ``.*?``\s*table( of kind ``\w+``)?: |^The ``.*`` table of the configuration\.$", "", about
    )
    intro = f"{sentence[:1].upper()}{sentence[1:]}\n\n" if sentence and struct is not Settings else ""
    told = field_docs(struct)
    rows = kind_row(struct) + "".join(
        row(struct, field, told) for field in msgspec.structs.fields(struct) if not is_table(field.type)
    )
    return f"\n## {title}\n\n{intro}| Key | Type | Default | Meaning |\n|---|---|---|---|\n{rows}"


def kind_row(struct: type[msgspec.Struct]) -> str:
    """Return the line of the key that tells tables of one name apart; nothing for a table that is alone."""
    config = struct.__struct_config__
    if config.tag_field is None:
        return ""
    default = f"`{KIND_DEFAULT}`" if config.tag == KIND_DEFAULT else "needed"
    return f"| `{config.tag_field}` | `{config.tag}` | {default} | Says that the table is of this kind. |\n"


def row(struct: type[msgspec.Struct], field: msgspec.structs.FieldInfo, told: dict[str, str]) -> str:
    """Return the line of one key."""
    meaning = told.get(field.name) or PLAIN_KEYS[struct, field.name]
    return f"| `{field.name}` | {type_words(field.type)} | {default_words(field)} | {meaning} |\n"


def field_docs(struct: type[msgspec.Struct]) -> dict[str, str]:
    """Return the string below each field of a struct, with code marks as Markdown has them."""
    body = ast.parse(textwrap.dedent(inspect.getsource(struct))).body[0]
    assert isinstance(body, ast.ClassDef)
    found: dict[str, str] = {}
    for statement, below in zip(body.body, body.body[1:], strict=False):
        if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
            continue
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            text = " ".join(str(below.value.value).split())
            found[statement.target.id] = (
                text.replace("``", "`").replace("; None:", "; without:").replace("None:", "Without:")
            )
    return found


def is_table(hint: Any) -> bool:  # noqa: ANN401 - type hints have no type of their own
    """Return whether a key is a table with a section of its own."""
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return True
    return any(is_table(inner) for inner in get_args(hint))


def type_words(hint: Any) -> str:  # noqa: ANN401 - as above
    """Return a type in words."""
    if get_origin(hint) is Literal:
        return " or ".join(f"`{value}`" for value in get_args(hint))
    if get_origin(hint) is tuple:
        return f"list of {type_words(get_args(hint)[0])}"
    if get_origin(hint) is dict:
        return f"table of {type_words(get_args(hint)[1])}s"
    kinds = [kind for kind in get_args(hint) or (hint,) if kind is not type(None)]
    kind = getattr(kinds[0], "__supertype__", kinds[0])
    if isinstance(kind, type) and issubclass(kind, Enum):
        return ", ".join(f"`{member.value}`" for member in kind)
    return {str: "text", int: "number", float: "number", bool: "yes or no", Path: "path"}[kind]


def default_words(field: msgspec.structs.FieldInfo) -> str:
    """Return the default of a key; a dash for none."""
    if field.required:
        return "needed" if field.name != "home" else "see meaning"
    default = field.default if field.default is not msgspec.NODEFAULT else ()
    if default is None or default in ("", ()):
        return "-"
    if isinstance(default, tuple):
        return ", ".join(f"`{one}`" for one in default)
    if isinstance(default, bool):
        return "`true`" if default else "`false`"
    return f"`{default}`"


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page())

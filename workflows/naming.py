"""What machines are called in the lines of a session that is about several."""

import re
from collections import Counter
from collections.abc import Iterable

from holdfast.model.ids import MachineId
from holdfast.model.machine import Machine

_ID_END = 8


def labels(machines: Iterable[Machine]) -> dict[MachineId, str]:
    """Return what each machine is called: its name, with the end of its id where several have the name."""
    machines = tuple(machines)
    count = Counter(machine.name for machine in machines)
    return {
        machine.machine_id: machine.name
        if count[machine.name] == 1
        else f"{machine.name} (…{machine.machine_id[-_ID_END:]})"
        for machine in machines
    }


def with_machine(note: str, name: str, label: str) -> str:
    """Return a note about one machine so that it says which; one that names it already is left as it is."""
    if label != name:
        return f"{label}: {note.removeprefix(f'{name}/')}"
    is_named = re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-]|\.\w)", note) is not None
    return note if is_named else f"{name}: {note}"

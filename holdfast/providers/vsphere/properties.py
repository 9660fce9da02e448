"""Reading properties: always leaf paths, always through the property collector, in pages.

Attribute access on managed objects is not used anywhere: it costs a call each, and some answers of real servers make
pyVmomi raise while it decodes them. A property that is unset, or that the account may not see, is missing from the
answer.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import Any, Final

import msgspec
from pyVmomi import vim, vmodl

from holdfast.errors import MachineNotFound, ProviderUnavailable
from holdfast.providers.vsphere.connection import Connection

PAGE_SIZE: Final = 500
"""Objects asked for at once; a page of machines with their devices is about 2 MiB."""

Values = dict[str, Any]


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A way from objects of a kind to the ones that a property of them names."""

    kind: Any
    path: str
    then: tuple["Step", ...] = ()


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be read of an object and of those that steps lead to, by their kind."""

    start: Any
    steps: tuple[Step, ...] = ()
    wanted: Mapping[Any, Sequence[str]]


def read(connection: Connection, what: Any, *paths: str) -> Values:
    """Return properties of one object by their paths. Raises `MachineNotFound` when it is gone."""
    for _, values in read_all(connection, [what], paths):
        return values
    raise MachineNotFound(f"{connection.endpoint.label}: {what._moId} is gone")


def read_all(connection: Connection, objects: Iterable[Any], paths: Sequence[str]) -> Iterator[tuple[Any, Values]]:
    """Yield each object with its properties, in the server's order. Raises `MachineNotFound` when one is gone.

    The objects are of one kind. A page is one call.
    """
    left = iter(objects)
    while page := list(islice(left, PAGE_SIZE)):
        specs = [_object(one) for one in page]
        yield from _retrieve(connection, *_filter(type(page[0]), paths, specs))


def read_disks(connection: Connection, machines: Sequence[Any], paths: Sequence[str]) -> list[Values]:
    """Return properties of a few hundred machines, in their order, in one call; of devices only what matters to disks.

    Raises `MachineNotFound` when one is gone.
    """
    what, specs = _filter(vim.VirtualMachine, paths, [_object(one) for one in machines])
    options = vmodl.query.PropertyCollector.RetrieveOptions()
    result = connection.call(what, lambda: connection.lean_collector().RetrievePropertiesEx(specs, options))
    answers = {found.obj._moId: {one.name: one.val for one in found.propSet} for found in result.objects}
    return [answers.get(one._moId, {}) for one in machines]


def ask(connection: Connection, *questions: Question) -> dict[Any, Values]:
    """Return the answers to several questions by object, asked in one call. Raises `MachineNotFound`.

    What a step leads to may be gone; then it is not among the answers.
    """
    specs = []
    for question in questions:
        start = vmodl.query.PropertyCollector.ObjectSpec(
            obj=question.start, skip=False, selectSet=[_traversal(step) for step in question.steps]
        )
        wanted = [_wanted(kind, paths) for kind, paths in question.wanted.items()]
        specs.append(vmodl.query.PropertyCollector.FilterSpec(objectSet=[start], propSet=wanted))
    answers: dict[Any, Values] = {}
    for found, values in _retrieve(connection, f"reading {questions[0].start._moId}", specs):
        answers.setdefault(found, {}).update(values)
    return answers


def walk(connection: Connection, kind: Any, paths: Sequence[str], root: Any = None) -> Iterator[tuple[Any, Values]]:
    """Yield every object of a kind below a container, the root folder unless said otherwise, with its properties.

    Holds one page at a time, however many objects there are.
    """
    content = connection.content
    container = content.rootFolder if root is None else root
    view = connection.call(
        f"listing {kind.__name__}", lambda: content.viewManager.CreateContainerView(container, [kind], recursive=True)
    )
    login = connection.logins
    try:
        path = vmodl.query.PropertyCollector.TraversalSpec(
            name="view", path="view", skip=False, type=vim.view.ContainerView
        )
        spec = vmodl.query.PropertyCollector.ObjectSpec(obj=view, skip=True, selectSet=[path])
        yield from _retrieve(connection, *_filter(kind, paths, [spec]), of_login=login)
    finally:
        _close(connection, view, login)


def extra_of(values: Values, key: str) -> str | None:
    """Return an entry of a machine's extra configuration, or None."""
    for option in values.get("config.extraConfig") or ():
        if option.key == key:
            return str(option.value) or None
    return None


def _object(one: Any) -> Any:
    return vmodl.query.PropertyCollector.ObjectSpec(obj=one, skip=False)


def _traversal(step: Step) -> Any:
    return vmodl.query.PropertyCollector.TraversalSpec(
        type=step.kind, path=step.path, skip=False, selectSet=[_traversal(one) for one in step.then]
    )


def _wanted(kind: Any, paths: Sequence[str]) -> Any:
    return vmodl.query.PropertyCollector.PropertySpec(type=kind, all=False, pathSet=list(paths))


def _filter(kind: Any, paths: Sequence[str], objects: list[Any]) -> tuple[str, list[Any]]:
    """Return what is done, in words, and its specification."""
    spec = vmodl.query.PropertyCollector.FilterSpec(objectSet=objects, propSet=[_wanted(kind, paths)])
    return f"reading {kind.__name__}", [spec]


def _retrieve(
    connection: Connection, what: str, specs: list[Any], of_login: int | None = None
) -> Iterator[tuple[Any, Values]]:
    collector = connection.content.propertyCollector
    options = vmodl.query.PropertyCollector.RetrieveOptions(maxObjects=PAGE_SIZE)
    result = connection.call(what, lambda: collector.RetrievePropertiesEx(specs, options), of_login=of_login)
    login = connection.logins
    while result is not None:
        for found in result.objects:
            yield found.obj, {one.name: one.val for one in found.propSet}
        token = result.token
        if not token:
            return
        result = connection.call(what, partial(collector.ContinueRetrievePropertiesEx, token), of_login=login)


def _close(connection: Connection, view: Any, login: int) -> None:
    with suppress(ProviderUnavailable):  # views end with their session
        connection.call("closing a view", view.DestroyView, of_login=login)

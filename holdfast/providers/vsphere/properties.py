"""Reading properties: always leaf paths, always through the property collector, in pages.

Attribute access on managed objects is not used anywhere: it costs a call each, and some answers of real servers make
pyVmomi raise while it decodes them. A property that is unset, or that the account may not see, is missing from the
answer.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import Any, Final

from pyVmomi import vim, vmodl

from holdfast.errors import MachineNotFound, ProviderUnavailable
from holdfast.providers.vsphere.connection import Connection

PAGE_SIZE: Final = 500
"""Objects asked for at once; a page of machines with their devices is about 2 MiB."""

Values = dict[str, Any]


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
        yield from _retrieve(connection, type(page[0]), paths, specs)


def walk(connection: Connection, kind: Any, paths: Sequence[str], root: Any = None) -> Iterator[tuple[Any, Values]]:
    """Yield every object of a kind below a container, the root folder unless said otherwise, with its properties.

    Holds one page at a time, however many objects there are.
    """
    content = connection.content
    container = content.rootFolder if root is None else root
    view = connection.call(
        f"listing {kind.__name__}", lambda: content.viewManager.CreateContainerView(container, [kind], recursive=True)
    )
    try:
        path = vmodl.query.PropertyCollector.TraversalSpec(
            name="view", path="view", skip=False, type=vim.view.ContainerView
        )
        spec = vmodl.query.PropertyCollector.ObjectSpec(obj=view, skip=True, selectSet=[path])
        yield from _retrieve(connection, kind, paths, [spec])
    finally:
        _close(connection, view)


def extra_of(values: Values, key: str) -> str | None:
    """Return an entry of a machine's extra configuration, or None."""
    for option in values.get("config.extraConfig") or ():
        if option.key == key:
            return str(option.value) or None
    return None


def _object(one: Any) -> Any:
    return vmodl.query.PropertyCollector.ObjectSpec(obj=one, skip=False)


def _retrieve(
    connection: Connection, kind: Any, paths: Sequence[str], objects: list[Any]
) -> Iterator[tuple[Any, Values]]:
    collector = connection.content.propertyCollector
    wanted = vmodl.query.PropertyCollector.PropertySpec(type=kind, all=False, pathSet=list(paths))
    spec = vmodl.query.PropertyCollector.FilterSpec(objectSet=objects, propSet=[wanted])
    options = vmodl.query.PropertyCollector.RetrieveOptions(maxObjects=PAGE_SIZE)
    what = f"reading {kind.__name__}"
    result = connection.call(what, lambda: collector.RetrievePropertiesEx([spec], options))
    while result is not None:
        for found in result.objects:
            yield found.obj, {one.name: one.val for one in found.propSet}
        token = result.token
        if not token:
            return
        more = partial(collector.ContinueRetrievePropertiesEx, token)
        result = connection.call(what, more, survives_login=False)


def _close(connection: Connection, view: Any) -> None:
    with suppress(ProviderUnavailable):  # views end with their session
        connection.call("closing a view", view.DestroyView, survives_login=False)

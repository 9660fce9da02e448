"""Binds a method to the activity contract it serves.

The method's types are checked against the contract by the type checker, the activity takes the
contract's name, and the boundary (errors, cancellation) is put around it, so that an implementation
is plain code::

    class TransferActivities:
        @implements(transfer.copy_disk)
        def copy_disk(self, request: transfer.CopyDisk) -> transfer.CopyReport: ...
"""

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Final, Generic, TypeVar, overload

from temporalio import activity

from activities.boundary import boundary

_Owner = TypeVar("_Owner")
_Request = TypeVar("_Request")
_Reply = TypeVar("_Reply")

_CONTRACT: Final = "holdfast_contract_name"


class Binding(Generic[_Request, _Reply]):
    """Decorator for the method that serves one contract, blocking or async."""

    def __init__(self, name: str) -> None:
        self._name = name

    @overload
    def __call__(
        self, method: Callable[[_Owner, _Request], Awaitable[_Reply]]
    ) -> Callable[[_Owner, _Request], Awaitable[_Reply]]: ...

    @overload
    def __call__(self, method: Callable[[_Owner, _Request], _Reply]) -> Callable[[_Owner, _Request], _Reply]: ...

    def __call__(self, method: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        """Register ``method`` under the contract's name, inside the boundary."""
        bound = _async_inside(method) if inspect.iscoroutinefunction(method) else _inside(method)
        setattr(bound, _CONTRACT, self._name)
        # A blocking activity polls for cancellation (boundary.Heartbeat); an exception raised into
        # its thread could land between a write and the code that makes it safe.
        return activity.defn(name=self._name, no_thread_cancel_exception=True)(bound)


def implements(contract: Callable[[_Request], _Reply]) -> Binding[_Request, _Reply]:
    """Return the decorator for a method that serves ``contract``, a stub of an activity."""
    return Binding(contract_name(contract))


def contract_name(contract: Callable[..., object]) -> str:
    """Return the activity name of a contract's stub. Raises TypeError for any other function."""
    definition = activity._Definition.must_from_callable(contract)  # noqa: SLF001 - the SDK has no public way to ask
    if definition.name is None:
        message = "a contract has a name of its own; dynamic activities are not contracts"
        raise TypeError(message)
    return definition.name


def served_by(owner: object) -> dict[str, Callable[..., Any]]:
    """Return the bound methods of ``owner`` that serve a contract, by contract name.

    Raises ValueError when two methods serve the same contract.
    """
    found: dict[str, Callable[..., Any]] = {}
    for attribute in dir(type(owner)):
        name = getattr(getattr(type(owner), attribute), _CONTRACT, None)
        if name is None:
            continue
        if name in found:
            message = f"{type(owner).__name__} serves {name} twice"
            raise ValueError(message)
        found[name] = getattr(owner, attribute)
    return found


def _inside(
    method: Callable[[_Owner, _Request], _Reply],
) -> Callable[[_Owner, _Request], _Reply]:
    @functools.wraps(method)
    def bound(owner: _Owner, request: _Request) -> _Reply:
        with boundary():
            return method(owner, request)

    return bound


def _async_inside(
    method: Callable[[_Owner, _Request], Awaitable[_Reply]],
) -> Callable[[_Owner, _Request], Awaitable[_Reply]]:
    @functools.wraps(method)
    async def bound(owner: _Owner, request: _Request) -> _Reply:
        with boundary():
            return await method(owner, request)

    return bound

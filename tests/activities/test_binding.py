"""Contracts and the methods that serve them."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from temporalio import activity
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.binding import contract_name, implements, served_by
from holdfast.errors import ChainBusy


class Question(msgspec.Struct, frozen=True, kw_only=True):
    text: str


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    text: str


@activity.defn(name="oracle.answer")
def answer(request: Question) -> Answer:
    """Answer a question."""
    raise AssertionError(request)


@activity.defn(name="oracle.ponder")
def ponder(request: Question) -> Answer:
    """Answer a question slowly."""
    raise AssertionError(request)


class Oracle:
    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    @implements(answer)
    def answer(self, request: Question) -> Answer:
        """Say what was asked."""
        if not request.text:
            message = "chain c1 is held"
            raise ChainBusy(message)
        return Answer(text=self._prefix + request.text)

    @implements(ponder)
    async def ponder(self, request: Question) -> Answer:
        if not request.text:
            message = "chain c2 is held"
            raise ChainBusy(message)
        return Answer(text=self._prefix + request.text)

    def unrelated(self) -> None: ...


def test_a_method_is_registered_under_the_name_of_its_contract() -> None:
    oracle = Oracle("> ")
    assert served_by(oracle) == {"oracle.answer": oracle.answer, "oracle.ponder": oracle.ponder}


def test_the_sdk_sees_the_contracts_name_and_the_methods_types() -> None:
    definition = activity._Definition.must_from_callable(Oracle("").answer)
    assert definition.name == "oracle.answer"
    assert (definition.arg_types, definition.ret_type) == ([Question], Answer)
    assert definition.no_thread_cancel_exception
    assert not definition.is_async
    assert activity._Definition.must_from_callable(Oracle("").ponder).is_async


def test_a_bound_method_keeps_its_name_and_docstring() -> None:
    assert Oracle.answer.__name__ == "answer"
    assert Oracle.answer.__doc__ == "Say what was asked."


def test_a_blocking_method_answers_inside_the_boundary() -> None:
    environment = ActivityEnvironment()
    assert environment.run(Oracle("> ").answer, Question(text="why")) == Answer(text="> why")
    with pytest.raises(ApplicationError) as caught:
        environment.run(Oracle("").answer, Question(text=""))
    assert caught.value.type == "chain-busy"


async def test_an_async_method_answers_inside_the_boundary() -> None:
    environment = ActivityEnvironment()
    assert await environment.run(Oracle("> ").ponder, Question(text="why")) == Answer(text="> why")
    with pytest.raises(ApplicationError) as caught:
        await environment.run(Oracle("").ponder, Question(text=""))
    assert caught.value.type == "chain-busy"


def test_a_class_that_serves_a_contract_twice_is_refused() -> None:
    class Twice:
        @implements(answer)
        def first(self, request: Question) -> Answer:
            return Answer(text=request.text)

        @implements(answer)
        def second(self, request: Question) -> Answer:
            return Answer(text=request.text)

    with pytest.raises(ValueError, match=r"oracle\.answer twice"):
        served_by(Twice())


def test_only_a_stub_marked_as_activity_is_a_contract() -> None:
    assert contract_name(answer) == "oracle.answer"
    with pytest.raises(TypeError):
        contract_name(len)


def test_a_dynamic_activity_is_no_contract() -> None:
    @activity.defn(dynamic=True)
    def anything(args: Sequence[RawValue]) -> None: ...

    with pytest.raises(TypeError, match="dynamic"):
        contract_name(anything)


SNIPPET = """
from activities.binding import implements
from tests.activities.test_binding import Answer, Question, answer


class Good:
    @implements(answer)
    def blocking(self, request: Question) -> Answer:
        return Answer(text=request.text)

    @implements(answer)
    async def concurrent(self, request: Question) -> Answer:
        return Answer(text=request.text)


async def use(good: Good) -> str:
    return good.blocking(Question(text="")).text + (await good.concurrent(Question(text=""))).text


class Wrong:
    @implements(answer)
    def request(self, request: Answer) -> Answer:
        return request

    @implements(answer)
    def reply(self, request: Question) -> Question:
        return request

    @implements(answer)
    async def async_request(self, request: Answer) -> Answer:
        return request

    @implements(answer)
    async def async_reply(self, request: Question) -> Question:
        return request
"""


def test_the_type_checker_accepts_matching_methods_and_rejects_others(
    tmp_path: Path, child_environment: dict[str, str]
) -> None:
    snippet = tmp_path / "snippet.py"
    snippet.write_text(SNIPPET)
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", str(snippet)]
    config = ["--config-file=", f"--cache-dir={tmp_path / 'cache'}"]
    result = subprocess.run(
        [*command, *config],
        cwd=root,
        env=child_environment | {"MYPYPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    errors = [line for line in result.stdout.splitlines() if ": error:" in line]
    wrong = [n for n, line in enumerate(SNIPPET.splitlines(), 1) if line.strip().startswith("@")]
    assert sorted({int(line.split(":")[1]) for line in errors}) == wrong[2:], result.stdout

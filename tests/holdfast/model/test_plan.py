"""The words of a read plan travel in histories and heartbeats, so they stay."""

import msgspec
import pytest

from holdfast.model.plan import Action, PlanStep, ReadDecision, ReadMode
from holdfast.model.spans import Span


def test_recorded_modes_and_actions_are_still_understood() -> None:
    assert {mode.value for mode in ReadMode} >= {"full", "changed", "compared"}
    assert {action.value for action in Action} >= {"read", "zero"}


def test_a_recorded_decision_is_still_read() -> None:
    recorded = b'{"mode":"compared","reason":"comparison was asked for","added":"later"}'
    decision = msgspec.json.decode(recorded, type=ReadDecision)
    assert decision == ReadDecision(mode=ReadMode.COMPARED, reason="comparison was asked for")


def test_a_step_survives_a_journey_as_json() -> None:
    step = PlanStep(Span(65536, 512), Action.ZERO)
    assert msgspec.json.decode(msgspec.json.encode(step), type=PlanStep) == step


def test_a_step_cannot_be_changed_after_it_was_planned() -> None:
    step = PlanStep(Span(0, 1), Action.READ)
    with pytest.raises(AttributeError):
        step.action = Action.ZERO  # type: ignore[misc]

"""The suite finds providers whose inventory is not as it should be."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from typing_extensions import override

from holdfast.errors import MachineNotFound
from holdfast.model.ids import MachineId
from holdfast.model.machine import Machine, PowerState
from holdfast.providers.local.hypervisor import LocalProvider
from holdfast.testing.providers import (
    InventoryConformance,
    ProviderConformance,
)
from tests.holdfast.testing.mutants import Test, assert_found

SUITE = InventoryConformance()


class ForgetsTheSecondMachine(LocalProvider):
    @override
    def machines(self) -> Iterator[Machine]:
        return iter(list(super().machines())[:1])


class TakesTheFirstOfAName(LocalProvider):
    @override
    def machine(self, reference: str) -> Machine:
        for machine in self.machines():
            if reference in (machine.machine_id, machine.name):
                return machine
        raise MachineNotFound(reference)


class FindsPrefixes(LocalProvider):
    @override
    def machine(self, reference: str) -> Machine:
        for machine in self.machines():
            if machine.name.startswith(reference):
                return machine
        return super().machine(reference)


class NeverSwitchesOff(LocalProvider):
    @override
    def set_power(self, machine_id: MachineId, power: PowerState) -> None:
        super().set_power(machine_id, PowerState.ON)


@pytest.mark.parametrize(
    "mutant, test",
    [
        (ForgetsTheSecondMachine, SUITE.test_machines_are_reported_as_they_are),
        (TakesTheFirstOfAName, SUITE.test_an_ambiguous_name_is_refused),
        (FindsPrefixes, SUITE.test_an_unknown_machine_is_not_found),
        (NeverSwitchesOff, SUITE.test_power_is_switched_and_reported),
    ],
)
def test_a_mutant_is_found(mutant: type[LocalProvider], test: Test, tmp_path: Path) -> None:
    assert_found(mutant, test, tmp_path)


def test_the_whole_suite_has_all_parts() -> None:
    names = {name for name in dir(ProviderConformance) if name.startswith("test_")}
    parts = [vars(part) for part in ProviderConformance.__bases__]
    assert sum(name.startswith("test_") for part in parts for name in part) == len(names)

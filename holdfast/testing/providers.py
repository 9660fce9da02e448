"""The suite that every provider passes: the contract of `holdfast.providers.ports` as tests.

A provider's test module makes a subclass with a pytest fixture called ``bench``::

    class TestMyProvider(ProviderConformance):
        @pytest.fixture
        def bench(self, tmp_path: Path) -> MyBench:
            return MyBench(tmp_path)

The suite needs nothing but plain assertions. A provider that does not track changes leaves
`ChangeConformance` out and combines the others.
"""

from holdfast.errors import MachineNotFound, RequestInvalid
from holdfast.model.ids import MachineId
from holdfast.model.machine import PowerState
from holdfast.testing.provider_bench import MIB, ProviderBench, raises
from holdfast.testing.provider_changes import ChangeConformance
from holdfast.testing.provider_files import FilesConformance
from holdfast.testing.provider_in_place import InPlaceConformance
from holdfast.testing.provider_snapshots import SnapshotConformance
from holdfast.testing.provider_targets import TargetConformance

NAMES = (
    "web 01",
    "../../etc/passwd",
    "a/b\\c",
    ".hidden",
    "Übergröße ☃ 数据",
    "quote ' \" ` $(date)",
    "-rf",
    "n" * 80,
)
"""Names that must do no harm; 80 characters is the most that every hypervisor takes."""


class InventoryConformance:
    """Which machines there are, and their power."""

    def test_an_empty_hypervisor_has_no_machines(self, bench: ProviderBench) -> None:
        """Nothing is reported before something is there."""
        assert list(bench.provider.machines()) == []

    def test_machines_are_reported_as_they_are(self, bench: ProviderBench) -> None:
        """Every machine is yielded, with its disks, in an order that does not change."""
        made = [bench.make_machine("one", [MIB]), bench.make_machine("two", [2 * MIB, 3 * MIB])]
        found = list(bench.provider.machines())
        assert found == list(bench.reconnect().machines())
        assert sorted(m.machine_id for m in found) == sorted(m.machine_id for m in made)
        two = next(machine for machine in found if machine.name == "two")
        assert [disk.size_bytes for disk in two.disks] == [2 * MIB, 3 * MIB]
        assert len({disk.key for disk in two.disks}) == len(two.disks)

    def test_a_machine_without_disks_is_a_machine(self, bench: ProviderBench) -> None:
        """It is reported with no disks."""
        made = bench.make_machine("diskless", [])
        assert bench.provider.machine("diskless") == made
        assert made.disks == ()

    def test_a_machine_is_found_by_id_and_by_name(self, bench: ProviderBench) -> None:
        """Both give the same machine."""
        made = bench.make_machine("web", [MIB])
        assert bench.provider.machine(made.machine_id) == made
        assert bench.provider.machine("web") == made

    def test_a_machine_whose_name_is_the_id_of_another_hides_nothing(self, bench: ProviderBench) -> None:
        """The id wins over the name."""
        first = bench.make_machine("first", [MIB])
        bench.make_machine(first.machine_id, [MIB])
        assert bench.provider.machine(first.machine_id) == first

    def test_an_unknown_machine_is_not_found(self, bench: ProviderBench) -> None:
        """Neither by name nor by an id; a prefix of a name is no name."""
        bench.make_machine("web", [MIB])
        for reference in ("we", "web2", "", "00000000-0000-0000-0000-000000000000", "../web"):
            with raises(MachineNotFound):
                bench.provider.machine(reference)

    def test_an_ambiguous_name_is_refused(self, bench: ProviderBench) -> None:
        """Each of the machines can still be found by its id."""
        made = [bench.make_machine("twin", [MIB]), bench.make_machine("twin", [MIB])]
        assert made[0].machine_id != made[1].machine_id
        with raises(RequestInvalid):
            bench.provider.machine("twin")
        assert bench.provider.machine(made[1].machine_id) == made[1]

    def test_names_may_have_any_characters(self, bench: ProviderBench) -> None:
        """A name is text, not a path or a command."""
        for name in NAMES:
            made = bench.make_machine(name, [MIB])
            assert made.name == name
            assert bench.provider.machine(name) == made
        assert sorted(m.name for m in bench.provider.machines()) == sorted(NAMES)

    def test_power_is_switched_and_reported(self, bench: ProviderBench) -> None:
        """Switching to the present state changes nothing."""
        made = bench.make_machine("web", [MIB])
        assert made.power is PowerState.OFF
        for power in (PowerState.OFF, PowerState.ON, PowerState.ON, PowerState.OFF):
            bench.provider.set_power(made.machine_id, power)
            assert bench.reconnect().machine(made.machine_id).power is power

    def test_power_of_an_unknown_machine_cannot_be_switched(self, bench: ProviderBench) -> None:
        """A name is not an id here."""
        bench.make_machine("web", [MIB])
        with raises(MachineNotFound):
            bench.provider.set_power(MachineId("web"), PowerState.ON)


class ProviderConformance(
    InventoryConformance,
    SnapshotConformance,
    ChangeConformance,
    TargetConformance,
    InPlaceConformance,
    FilesConformance,
):
    """Everything."""

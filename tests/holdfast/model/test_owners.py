"""Whose chains are whose."""

from holdfast.model.ids import JobName, MachineId, folder_name
from holdfast.model.owners import ChainOwner, is_job_folder


def test_a_machine_owns_its_chains_by_its_id_whatever_it_is_called() -> None:
    before = ChainOwner.of_machine(MachineId("m1"), "web")
    after = ChainOwner.of_machine(MachineId("m1"), "www")
    assert before.owner_id == after.owner_id == "m1"
    assert (before.name, after.name) == ("web", "www")


def test_a_job_and_a_machine_of_one_name_own_different_chains() -> None:
    job, machine = ChainOwner.of_job(JobName("web")), ChainOwner.of_machine(MachineId("web"), "web")
    assert folder_name(job.name, job.owner_id) != folder_name(machine.name, machine.owner_id)


def test_the_folder_of_a_job_is_known_by_its_name() -> None:
    job, machine = ChainOwner.of_job(JobName("nightly-2")), ChainOwner.of_machine(MachineId("nightly-2"), "nightly-2")
    assert is_job_folder(folder_name(job.name, job.owner_id))
    assert not is_job_folder(folder_name(machine.name, machine.owner_id))

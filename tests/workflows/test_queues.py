"""Queues and ids: derived, and different where work must not wait for other work."""

from holdfast.model.ids import JobName, MachineId, ProviderName, RepositoryName, SessionId
from workflows import queues


def test_short_and_long_work_never_share_a_queue() -> None:
    names = [
        queues.CONTROL,
        queues.proxy_queue("a"),
        queues.transfer_queue("a"),
        queues.look_queue("a"),
        queues.repository_queue(RepositoryName("a")),
        queues.upkeep_queue(RepositoryName("a")),
        queues.fresh_queue(RepositoryName("a")),
        queues.chain_queue(RepositoryName("a")),
    ]
    assert len(set(names)) == len(names)


def test_the_id_of_a_machine_backup_is_one_per_machine_and_repository() -> None:
    vault = RepositoryName("vault")
    first = queues.machine_backup_id(vault, MachineId("m1"), "web")
    assert first == queues.machine_backup_id(vault, MachineId("m1"), "web")
    assert first != queues.machine_backup_id(vault, MachineId("m2"), "web")
    assert first != queues.machine_backup_id(RepositoryName("other"), MachineId("m1"), "web")


def test_sessions_of_a_job_share_an_id_and_restores_do_not() -> None:
    assert queues.backup_id(JobName("nightly")) == "backup/nightly"
    assert queues.retention_id(JobName("nightly")) == "retention/nightly"
    assert queues.verify_id(RepositoryName("vault")) == "verify/vault"
    assert queues.sweep_id(ProviderName("vc")) == "sweep/vc"
    assert queues.restore_id(SessionId("a")) != queues.restore_id(SessionId("b"))


def test_a_tag_says_whose_it_is() -> None:
    assert queues.snapshot_tag(SessionId("s1")) == "holdfast-s1"

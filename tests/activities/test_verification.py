"""Checking the chains of a repository one after the other."""

import msgspec
import pytest

from activities.verification import (
    DAMAGES_NAMED_MAX,
    ChainCheck,
    Scope,
    chains_to_verify,
    check_found,
    closed_chain,
    joined,
    may_hold,
    newest_chains,
)
from holdfast.errors import ChainBroken, OperationInterrupted, PassphraseWrong, PointNotFound, RequestInvalid
from holdfast.formats.chain_keep import NotedOwner
from holdfast.model.ids import DiskKey, JobName
from holdfast.model.machine import Machine
from holdfast.model.owners import ChainOwner
from holdfast.model.points import CHAINS_NAMED_MAX, ChainRead, Damage, Health, PointSummary, VerifyReport
from holdfast.storage.chains.keeping import write_owner
from holdfast.storage.health.health_file import HEALTH_NAME, read_health
from tests.activities.lab import KEY, PIECE, Lab, run


def ignore(_: int) -> None: ...


def check(lab: Lab, chain: str, machine: str | None = None, numbers: tuple[int, ...] = ()) -> VerifyReport:
    return ChainCheck(lab.repository, chain, None, Scope(machine=machine, numbers=numbers)).run(ignore)


def damage_at(offset: int) -> Damage:
    return Damage(chain="c", point=1, machine="m", disk=DiskKey("d"), offset=offset, length=1, file="f", reason="bad")


def damaged(count: int, unnamed: int = 0) -> VerifyReport:
    return VerifyReport(
        points=1,
        units=2,
        stored_bytes=3,
        damages=tuple(damage_at(offset) for offset in range(count)),
        unnamed_damages=unnamed,
    )


def test_reports_add_up_and_name_no_more_damage_than_travels_well() -> None:
    both = joined(damaged(DAMAGES_NAMED_MAX - 1), damaged(3, unnamed=4))
    assert (both.chains, both.points, both.units, both.stored_bytes) == (2, 2, 4, 6)
    assert both.damages == (*damaged(DAMAGES_NAMED_MAX - 1).damages, damage_at(0))
    assert both.unnamed_damages == 6
    assert joined(VerifyReport(chains=0), damaged(2)) == damaged(2)


def test_of_many_chains_those_with_damage_are_named_first() -> None:
    many = VerifyReport(read=tuple(ChainRead(chain=f"c{number}") for number in range(CHAINS_NAMED_MAX)))
    bad = VerifyReport(read=(ChainRead(chain="bad", damages=1),))
    named = joined(many, bad).read
    assert [one.chain for one in named[:2]] == ["bad", "c0"]
    assert len(named) == CHAINS_NAMED_MAX


def test_a_report_says_what_was_read_of_each_chain(lab: Lab) -> None:
    _, point = lab.back_up(lab.add_machine())
    report = check(lab, point.chain)
    assert report.read == (ChainRead(chain=point.chain, points=1, stored_bytes=report.stored_bytes),)
    lab.chain_file(point).write_bytes(b"\xff" * PIECE)
    [read] = check(lab, point.chain).read
    assert (read.chain, read.points, read.damages) == (point.chain, 0, 1)


def test_chains_without_any_file_are_passed_over(lab: Lab) -> None:
    _, web = lab.back_up(lab.add_machine("web"))
    request = lab.begun(lab.add_machine("mail"))
    assert chains_to_verify(lab.repository, None) == sorted([web.chain, request.point.chain])
    lab.chain_file(request.point).unlink()
    assert chains_to_verify(lab.repository, None) == [web.chain]
    assert chains_to_verify(lab.repository, "machines/any/chain") == ["machines/any/chain"]
    with pytest.raises(RequestInvalid):
        chains_to_verify(lab.repository, "../../..")


def test_a_good_chain_is_reported_with_what_was_read(lab: Lab) -> None:
    _, point = lab.back_up(lab.add_machine())
    seen = list[int]()
    report = ChainCheck(lab.repository, point.chain, None).run(seen.append)
    assert report.is_good
    assert (report.chains, report.points) == (1, 1)
    assert seen == sorted(seen)
    assert seen[-1] == report.stored_bytes


def test_damage_is_named_by_chain_point_disk_and_offset(lab: Lab) -> None:
    machine = lab.add_machine()
    _, point = lab.back_up(machine)
    content = lab.chain_file(point).read_bytes()
    at = content.index(lab.content(machine)[100:200])
    lab.chain_file(point).write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    (found, *more) = check(lab, point.chain).damages
    assert not more
    assert (found.chain, found.point, found.machine, found.disk) == (point.chain, point.number, machine.name, KEY)
    assert (found.offset, found.file) == (0, point.file)


def test_a_chain_none_of_whose_files_opens_is_damage_and_no_end(lab: Lab) -> None:
    _, point = lab.back_up(lab.add_machine())
    lab.chain_file(point).write_bytes(b"\xff" * PIECE)
    for machine in (None, "web 01"):
        (found,) = check(lab, point.chain, machine).damages
        assert (found.chain, found.machine, found.length) == (point.chain, machine or "", 0)


def test_a_missing_file_is_named_through_the_metadata(lab: Lab) -> None:
    machine = lab.add_machine()
    lab.back_up(machine)
    _, newest = lab.back_up(machine, "s2")
    lab.chain_file(newest).unlink()
    report = check(lab, newest.chain)
    assert [found.file for found in report.damages] == ["chain.hfm"]
    assert report.points == 1


def test_a_missing_parent_is_named_also_without_metadata(lab: Lab) -> None:
    machine = lab.add_machine()
    _, first = lab.back_up(machine)
    lab.back_up(machine, "s2")
    lab.chain_file(first).unlink()
    (lab.repository.chain_folder(first.chain) / "chain.hfm").unlink()
    assert not check(lab, first.chain).is_good


def test_a_file_that_cannot_be_opened_hides_no_other(lab: Lab) -> None:
    machine = lab.add_machine()
    _, first = lab.back_up(machine)
    lab.overwrite(machine, 0, PIECE)
    _, second = lab.back_up(machine, "s2")
    lab.chain_file(second).write_bytes(b"\xff" * PIECE)
    report = check(lab, first.chain, machine.name)
    assert report.points == 1
    assert [(found.chain, found.file, found.point) for found in report.damages] == [
        (first.chain, second.file, second.number)
    ]


def test_an_unfinished_point_is_no_damage(lab: Lab) -> None:
    machine = lab.add_machine()
    request = lab.begun(machine)
    assert check(lab, request.point.chain) == VerifyReport(chains=1)


def test_points_of_another_machine_or_number_are_not_counted(lab: Lab) -> None:
    machine = lab.add_machine()
    _, point = lab.back_up(machine)
    assert check(lab, point.chain, "ghost") == VerifyReport(chains=0)
    assert check(lab, point.chain, machine.name, (point.number + 1,)) == VerifyReport(chains=0)
    for reference in (machine.name, machine.machine_id):
        assert check(lab, point.chain, reference, (point.number,)).points == 1


def test_a_chain_that_is_gone_is_damage(lab: Lab) -> None:
    chain = "machines/web-00000000/000001-00000000"
    with pytest.raises(ChainBroken) as caught:
        lab.repository.open_chain(chain, None)
    (found,) = check(lab, chain).damages
    assert found.reason == caught.value.message


def test_a_check_ends_with_what_its_report_raises(lab: Lab) -> None:
    _, point = lab.back_up(lab.add_machine())

    def stop(_: int) -> None:
        message = "going down"
        raise OperationInterrupted(message)

    with pytest.raises(OperationInterrupted):
        ChainCheck(lab.repository, point.chain, None).run(stop)


def damage_first_unit(lab: Lab, machine: Machine, point: PointSummary) -> None:
    content = lab.chain_file(point).read_bytes()
    at = content.index(lab.content(machine)[100:200])
    lab.chain_file(point).write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])


def test_what_is_found_is_written_down_and_told(lab: Lab) -> None:
    machine = lab.add_machine()
    _, point = lab.back_up(machine)
    damage_first_unit(lab, machine, point)
    report = ChainCheck(lab.repository, point.chain, None, clock=lab.clock).run(ignore)
    (told,) = report.health
    assert (told.point_id, told.state, told.chain) == (point.point_id, Health.DAMAGED, point.chain)
    known = read_health(lab.repository.files, lab.repository.chain_folder(point.chain))
    assert known.points[0].point_id == point.point_id
    assert known.files[0].units
    assert known.files[0].reads, "all of it was read"


def test_without_a_clock_nothing_is_written(lab: Lab) -> None:
    _, point = lab.back_up(lab.add_machine())
    check(lab, point.chain)
    folder = lab.repository.chain_folder(point.chain)
    assert not lab.repository.files.exists(folder / HEALTH_NAME)


def test_only_what_a_new_point_holds_itself_is_read(lab: Lab) -> None:
    machine = lab.add_machine()
    _, first = lab.back_up(machine)
    lab.overwrite(machine, 10 * PIECE, PIECE)
    _, second = lab.back_up(machine, "s2")
    damage_first_unit(lab, machine, first)
    scope = Scope(numbers=(second.number,), is_new_only=True)
    assert ChainCheck(lab.repository, second.chain, None, scope).run(ignore).is_good
    assert not check(lab, second.chain, None, (second.number,)).is_good


def test_the_newest_point_of_each_machine_is_in_its_newest_chain(lab: Lab) -> None:
    machine, other = lab.add_machine(), lab.add_machine("mail")
    _, first = lab.back_up(machine)
    _, mail = lab.back_up(other)
    _, second = lab.back_up(machine, "s2")
    assert newest_chains(lab.repository) == sorted([mail.chain, second.chain])
    report = ChainCheck(lab.repository, first.chain, None, Scope(newest=True)).run(ignore)
    assert report.points == 1


def close(lab: Lab, point: PointSummary) -> None:
    """Make the file of a point one that nothing opens."""
    lab.chain_file(point).write_bytes(b"\xff" * PIECE)


def rename_folder(lab: Lab, point: PointSummary, name: str) -> str:
    """Give the folder of a point's machine another name; return the chain."""
    folder = lab.repository.chain_folder(point.chain)
    folder.parent.rename(folder.parent.with_name(name))
    return f"machines/{name}/{folder.name}"


def test_a_chain_is_a_machines_by_its_folder_without_being_opened(lab: Lab) -> None:
    machine = lab.add_machine("Web 01")
    _, point = lab.back_up(machine)
    close(lab, point)
    assert all(may_hold(lab.repository, point.chain, name, [None]) for name in ("Web 01", machine.machine_id))
    assert not may_hold(lab.repository, point.chain, "mail", [None])


def test_a_chain_in_a_folder_of_another_name_is_a_machines_by_its_points(lab: Lab) -> None:
    machine = lab.add_machine("web")
    _, first = lab.back_up(machine)
    snapshot = lab.freeze(machine, "s2")
    begun = run(lab.points.begin_point, msgspec.structs.replace(lab.begin_request(snapshot), full=True))
    run(lab.transfers.copy_disk, lab.copy_request(snapshot, begun))
    second = lab.finish(begun)
    chain = rename_folder(lab, first, "old-00000000")
    assert may_hold(lab.repository, chain, "web", [None])
    assert not may_hold(lab.repository, chain, "mail", [None])
    beside = f"{chain.rpartition('/')[0]}/{second.chain.rpartition('/')[2]}"
    (lab.repository.root / beside / second.file).write_bytes(b"\xff" * PIECE)
    assert may_hold(lab.repository, beside, "web", [None])
    assert not may_hold(lab.repository, beside, "mail", [None])


def test_a_closed_chain_of_a_job_may_hold_any_machine(lab: Lab) -> None:
    _, point = lab.back_up(lab.add_machine("web"))
    close(lab, point)
    owner = ChainOwner.of_job(JobName("nightly"))
    chain = rename_folder(lab, point, lab.repository.owner_folder(owner).name)
    assert may_hold(lab.repository, chain, "mail", [None])


def test_a_chain_that_could_not_be_opened_is_named_with_the_code_of_its_error() -> None:
    (damage,) = closed_chain("machines/a/b", PassphraseWrong("no")).damages
    assert (damage.chain, damage.reason, damage.code) == ("machines/a/b", "no", "passphrase-wrong")


def test_nothing_checked_is_good_only_where_no_machine_was_named() -> None:
    check_found(VerifyReport(chains=0), None)
    check_found(VerifyReport(chains=1), "web")
    with pytest.raises(PointNotFound, match="machine web"):
        check_found(VerifyReport(chains=0), "web")


def test_a_machine_is_known_by_the_name_its_chains_were_given(lab: Lab) -> None:
    _, point = lab.back_up(lab.add_machine("web"))
    folder = lab.repository.chain_folder(point.chain)
    owner = NotedOwner(folder=folder.parent.name, machine_id="m9", machine_name="www", named=point.number)
    with lab.repository.open_chain(point.chain, None) as chain:
        write_owner(lab.repository.files, folder, chain.files[0].keys, owner)
    for name in ("www", "m9"):
        assert may_hold(lab.repository, point.chain, name, [None])
        assert check(lab, point.chain, name).points == 1

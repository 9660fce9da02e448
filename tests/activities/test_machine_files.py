"""The small files of machines, into a point and out of it; no byte of them stands in a request or a reply."""

import msgspec

from activities.contracts.machine_files import CopyMachineFiles, KeptFile, MachineFilesCopied, PlaceMachineFiles
from activities.contracts.repository import FindPoint
from holdfast.errors import ChainBusy, PointNotFound, RequestInvalid, SnapshotNotFound
from holdfast.model.ids import MachineId, SnapshotId
from holdfast.model.machine import Machine
from holdfast.model.machine_files import FileLeftOut, MachineFile, MachineFiles, PlacedFiles
from holdfast.providers.local.machines import MACHINE_FILE
from holdfast.storage.chain_files.chain_writer import ChainWriter
from holdfast.storage.points.point_files import read_files
from tests.activities.lab import PROVIDER, STORE, TOKEN, Lab, failure, run, run_twice


def begun(lab: Lab, machine: Machine) -> CopyMachineFiles:
    """Return the request for a point that has just been begun."""
    copy = lab.begun(machine)
    return CopyMachineFiles(
        provider=PROVIDER,
        machine_id=copy.machine_id,
        snapshot_id=copy.snapshot_id,
        repository=STORE,
        point=copy.point,
    )


def finished(lab: Lab, request: CopyMachineFiles) -> MachineFiles:
    """Complete the point and return the files it keeps."""
    snapshot = lab.freeze(lab.provider.machine(request.machine_id))
    run(lab.transfers.copy_disk, lab.copy_request(snapshot, request.point))
    lab.finish(request.point)
    with lab.repository.open_chain(request.point.chain, None) as chain:
        return read_files(chain, request.point.number)


def test_the_file_of_a_machine_is_kept_in_its_point(lab: Lab) -> None:
    machine = lab.add_machine()
    request = begun(lab, machine)
    [path] = (lab.root / "provider" / "machines").glob(f"*/{MACHINE_FILE}")
    content = path.read_bytes()
    assert request.point.takes_files
    copied = run_twice(lab.machine_files.copy_machine_files, request)
    assert copied == MachineFilesCopied(kept=(KeptFile(name=MACHINE_FILE, size_bytes=len(content)),))
    assert content not in msgspec.json.encode(copied)
    assert finished(lab, request).files == (MachineFile(name=MACHINE_FILE, content=content),)
    found = run(lab.points.find_point, FindPoint(repository=STORE, reference="latest"))
    assert found.files == (MACHINE_FILE,)


def test_files_that_a_point_cannot_keep_are_left_out(lab: Lab) -> None:
    """And so are those that the provider could not read; the rest is kept."""
    kept, large = MachineFile(name="a", content=b"a"), MachineFile(name="b", content=bytes((1 << 20) + 1))
    lost = FileLeftOut(name="c", reason="it is locked")

    def machine_files(machine_id: MachineId, snapshot_id: SnapshotId) -> MachineFiles:
        return MachineFiles(files=(kept, large), left_out=(lost,))

    request = begun(lab, lab.add_machine())
    lab.provider.machine_files = machine_files  # type: ignore[method-assign] # what a large hypervisor might say
    copied = run_twice(lab.machine_files.copy_machine_files, request)
    assert copied.kept == (KeptFile(name="a", size_bytes=1),)
    assert [file.name for file in copied.left_out] == ["c", "b"]
    assert finished(lab, request).files == (kept,)


def test_a_copy_after_the_snapshot_has_gone_is_refused(lab: Lab) -> None:
    request = begun(lab, lab.add_machine())
    lab.provider.remove_snapshot(request.machine_id, request.snapshot_id)
    failure(SnapshotNotFound, lab.machine_files.copy_machine_files, request)


def test_a_copy_into_a_chain_that_is_being_written_waits_for_its_turn(lab: Lab) -> None:
    request = begun(lab, lab.add_machine())
    with ChainWriter.resume(lab.repository.files, lab.chain_file(request.point)):
        assert not failure(ChainBusy, lab.machine_files.copy_machine_files, request).non_retryable


def test_a_copy_into_a_point_that_is_gone_or_complete_is_refused(lab: Lab) -> None:
    request = begun(lab, lab.add_machine())
    finished(lab, request)
    failure(RequestInvalid, lab.machine_files.copy_machine_files, request)
    lab.chain_file(request.point).unlink()
    failure(PointNotFound, lab.machine_files.copy_machine_files, request)


def test_a_target_is_offered_the_files_of_the_point(lab: Lab) -> None:
    request = begun(lab, lab.add_machine())
    run(lab.machine_files.copy_machine_files, request)
    kept = finished(lab, request).files
    target = lab.prepare(lab.provider.machine(request.machine_id), TOKEN)
    offered: list[object] = []
    usual = lab.provider.place_machine_files

    def place(target_id: object, files: object) -> PlacedFiles:
        offered.append(files)
        assert usual(target.target_id, kept) == PlacedFiles()
        return PlacedFiles(placed=(MACHINE_FILE,))

    lab.provider.place_machine_files = place  # type: ignore[method-assign] # to see what is offered
    wanted = PlaceMachineFiles(
        provider=PROVIDER,
        target_id=target.target_id,
        repository=STORE,
        chain=request.point.chain,
        number=request.point.number,
    )
    assert run_twice(lab.machine_files.place_machine_files, wanted) == PlacedFiles(placed=(MACHINE_FILE,))
    assert offered == [kept, kept]


def test_a_damaged_file_is_left_out_of_a_restore(lab: Lab) -> None:
    request = begun(lab, lab.add_machine())
    run(lab.machine_files.copy_machine_files, request)
    finished(lab, request)
    path = lab.chain_file(request.point)
    with lab.repository.open_chain(request.point.chain, None) as chain:
        [entry] = chain.point(1)[1].machine_files
    data = bytearray(path.read_bytes())
    data[entry.ref.offset + 90] ^= 1
    path.write_bytes(data)
    target = lab.prepare(lab.provider.machine(request.machine_id), TOKEN)
    wanted = PlaceMachineFiles(
        provider=PROVIDER, target_id=target.target_id, repository=STORE, chain=request.point.chain, number=1
    )
    done = run(lab.machine_files.place_machine_files, wanted)
    assert [file.name for file in done.left_out] == [MACHINE_FILE]

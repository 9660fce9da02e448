"""Files of machines on datastores: read with every backup, and an nvram given to a machine that is made anew."""

import random
from pathlib import Path

import msgspec
import pytest
from pyVmomi import vim

from holdfast.clock import SystemClock
from holdfast.errors import SnapshotNotFound
from holdfast.model.machine import Machine, RestoreTarget
from holdfast.model.machine_files import MachineFile, MachineFiles
from holdfast.providers.vsphere.privileges import LEAST_ROLE
from holdfast.providers.vsphere.provider import VSphereProvider
from tests.holdfast.providers.vsphere.accounts import PASSWORD, USER, account_with
from tests.holdfast.providers.vsphere.bench import VSphereBench

pytestmark = pytest.mark.vsphere

MIB = 1 << 20
NVRAM = MachineFile(name="old.nvram", content=random.Random(7).randbytes(8684))
VMX = MachineFile(name="old.vmx", content=b'uuid.bios = "the captured one"\n')


def path_of(bench: VSphereBench, datastore_path: str) -> Path:
    store, _, inside = datastore_path[1:].partition("] ")
    return bench.settings.mounts[store] / inside


def nvram_of(bench: VSphereBench, machine: Machine) -> Path:
    [listed] = [file.name for file in bench.vm(machine.machine_id).layoutEx.file if file.type == "nvram"]
    return path_of(bench, listed)


def captured(bench: VSphereBench, machine: Machine, provider: VSphereProvider | None = None) -> MachineFiles:
    one = bench.provider if provider is None else provider
    snapshot = bench.provider.create_snapshot(machine.machine_id, "tag")
    return one.machine_files(machine.machine_id, snapshot.snapshot_id)


def prepare(bench: VSphereBench, machine: Machine, name: str = "new") -> RestoreTarget:
    wanted = msgspec.structs.replace(machine, name=name)
    return bench.provider.prepare_target("token", wanted, machine.disks, None)


def test_vmx_and_nvram_are_read_byte_by_byte(bench: VSphereBench) -> None:
    machine = bench.make_machine("größe 100% & [web]", [MIB])
    nvram_of(bench, machine).write_bytes(NVRAM.content)
    found = captured(bench, machine)
    assert found.left_out == ()
    by_kind = {file.name.rpartition(".")[2]: file.content for file in found.files}
    assert sorted(by_kind) == ["nvram", "vmx"]
    assert by_kind["nvram"] == NVRAM.content
    vmx = path_of(bench, bench.vm(machine.machine_id).config.files.vmPathName)
    assert by_kind["vmx"] == vmx.read_bytes()
    assert b"displayName" in by_kind["vmx"]


def test_the_files_of_a_running_machine_are_read(bench: VSphereBench) -> None:
    machine = bench.make_machine("web", [MIB])
    bench.client.wait(bench.vm(machine.machine_id).PowerOnVM_Task())
    assert len(captured(bench, machine).files) == 2


def test_a_file_that_cannot_be_read_is_left_out_and_hides_no_other(bench: VSphereBench) -> None:
    machine = bench.make_machine("web", [MIB])
    nvram_of(bench, machine).write_bytes(bytes(MIB + 1))
    found = captured(bench, machine)
    assert [file.name.rpartition(".")[2] for file in found.files] == ["vmx"]
    [lost] = found.left_out
    assert lost.name.endswith(".nvram")
    assert "has more than 1048576 bytes" in lost.reason
    nvram_of(bench, machine).unlink()
    assert "404" in captured(bench, machine).left_out[0].reason


def test_a_file_server_that_refuses_everything_fails_nothing(bench: VSphereBench) -> None:
    machine = bench.make_machine("web", [MIB])
    bench.client.control("POST", "/faults", {"method": "folder:GET", "action": "drop"})
    found = captured(bench, machine)
    assert found.files == ()
    assert len(found.left_out) == 2


def test_an_account_that_may_not_browse_is_told_of(bench: VSphereBench) -> None:
    machine = bench.make_machine("web", [MIB])
    names = sorted({one.name for one in LEAST_ROLE} - {"Datastore.Browse"})
    with account_with(bench.client, names):
        endpoint = msgspec.structs.replace(bench.settings.endpoint, user=USER, password=lambda: PASSWORD)
        settings = msgspec.structs.replace(bench.settings, endpoint=endpoint)
        with VSphereProvider(settings, SystemClock()) as limited:
            found = captured(bench, machine, limited)
    assert found.files == ()
    assert {file.reason.partition("answers ")[2] for file in found.left_out} == {"403 Forbidden"}


def test_a_snapshot_that_is_gone_is_noticed(bench: VSphereBench) -> None:
    machine = bench.make_machine("web", [MIB])
    snapshot = bench.provider.create_snapshot(machine.machine_id, "tag")
    bench.provider.remove_snapshot(machine.machine_id, snapshot.snapshot_id)
    with pytest.raises(SnapshotNotFound):
        bench.provider.machine_files(machine.machine_id, snapshot.snapshot_id)


# ---------------------------------------------------------------------------------------------------- placing


def test_a_new_machine_gets_the_nvram_and_never_the_vmx(bench: VSphereBench) -> None:
    machine = bench.make_machine("web", [MIB])
    target = prepare(bench, machine)
    assert bench.provider.place_machine_files(target.target_id, [VMX, NVRAM]).placed == ("old.nvram",)
    made = bench.provider.commit_target(target.target_id)
    config = bench.vm(made.machine_id).config
    [stated] = [option.value for option in config.extraConfig if option.key == "nvram"]
    folder = config.files.vmPathName.rpartition("/")[0]
    assert path_of(bench, f"{folder}/{stated}").read_bytes() == NVRAM.content
    assert b"the captured one" not in path_of(bench, config.files.vmPathName).read_bytes()
    assert made.machine_id != machine.machine_id
    assert NVRAM.content in {file.content for file in captured(bench, made).files}


def test_the_nvram_goes_where_the_configuration_says(bench: VSphereBench) -> None:
    machine = bench.make_machine("web", [MIB])
    target = prepare(bench, machine)
    [staged] = [vm for vm in bench.client.all(vim.VirtualMachine) if vm.name.startswith("holdfast-restore-")]
    bench.client.reconfigure(staged, extraConfig=[vim.option.OptionValue(key="nvram", value="elsewhere.nvram")])
    assert bench.provider.place_machine_files(target.target_id, [NVRAM]).placed == ("old.nvram",)
    folder = path_of(bench, staged.config.files.vmPathName).parent
    assert (folder / "elsewhere.nvram").read_bytes() == NVRAM.content


def test_a_broken_line_is_tried_again_and_a_refusal_is_told_of(bench: VSphereBench) -> None:
    machine = bench.make_machine("web", [MIB])
    target = prepare(bench, machine)
    rule = {"method": "folder:PUT", "action": "drop"}
    bench.client.control("POST", "/faults", rule | {"times": 1})
    assert bench.provider.place_machine_files(target.target_id, [NVRAM]).placed == ("old.nvram",)
    bench.client.control("POST", "/faults", rule)
    done = bench.provider.place_machine_files(target.target_id, [NVRAM])
    assert done.placed == ()
    assert done.left_out[0].reason.startswith("writing [")


def test_an_account_that_may_not_write_files_is_told_what_it_lacks(bench: VSphereBench) -> None:
    machine = bench.make_machine("web", [MIB])
    target = prepare(bench, machine)
    names = sorted({one.name for one in LEAST_ROLE} - {"Datastore.FileManagement"})
    with account_with(bench.client, names):
        endpoint = msgspec.structs.replace(bench.settings.endpoint, user=USER, password=lambda: PASSWORD)
        settings = msgspec.structs.replace(bench.settings, endpoint=endpoint)
        with VSphereProvider(settings, SystemClock()) as limited:
            done = limited.place_machine_files(target.target_id, [NVRAM])
    assert "403 Forbidden" in done.left_out[0].reason


def test_an_ended_session_is_renewed(bench: VSphereBench) -> None:
    machine = bench.make_machine("web", [MIB])
    target = prepare(bench, machine)
    bench.client.control("POST", "/sessions/expire")
    assert bench.provider.place_machine_files(target.target_id, [NVRAM]).placed == ("old.nvram",)


def test_an_empty_nvram_and_other_files_are_of_no_use(bench: VSphereBench) -> None:
    machine = bench.make_machine("web", [MIB])
    target = prepare(bench, machine)
    done = bench.provider.place_machine_files(target.target_id, [VMX, MachineFile(name="a.nvram", content=b"")])
    assert (done.placed, done.left_out) == ((), ())

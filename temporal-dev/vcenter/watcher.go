package main

import (
	"slices"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// watcher hears of every object that comes, changes and goes, under that object's lock.
type watcher struct {
	lab *lab
}

// Reference satisfies the registry's interface; it is no object of the API.
func (w *watcher) Reference() ref {
	return types.ManagedObjectReference{Type: "LabWatcher", Value: "lab-watcher"}
}

// PutObject completes a new machine: strict clients refuse empty texts where an enumeration stands.
func (w *watcher) PutObject(_ *simulator.Context, object mo.Reference) {
	w.lab.places.note(object)
	switch x := object.(type) {
	case *simulator.VirtualMachine:
		completeRuntime(&x.Runtime)
		completeRuntime(&x.Summary.Runtime)
		completeCapability(&x.VirtualMachine)
		w.lab.records.touch(x.Self)
	case *simulator.DistributedVirtualPortgroup:
		completeUplinks(x)
	case *simulator.Task:
		guardTask(x) // before it runs
	}
}

// UpdateObject keeps files and books in step with a machine's devices.
func (w *watcher) UpdateObject(_ *simulator.Context, object mo.Reference, changes []types.PropertyChange) {
	w.lab.places.note(object)
	vm, ok := object.(*mo.VirtualMachine)
	if !ok {
		return
	}
	w.lab.records.touch(vm.Self)
	for _, change := range changes {
		switch change.Name {
		case "config.hardware.device":
			w.lab.disks.devicesChanged(vm)
		case "runtime.powerState":
			completeRuntime(&vm.Runtime)
			completeRuntime(&vm.Summary.Runtime)
			if vm.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOn {
				w.lab.guests.killAll(vm.Self)
				stopTools(vm)
			}
		}
	}
}

// RemoveObject forgets what we know of an object.
func (w *watcher) RemoveObject(_ *simulator.Context, r ref) {
	w.lab.unwrap(r)
	w.lab.places.forget(r)
	if r.Type == "VirtualMachine" {
		w.lab.disks.forget(r)
		w.lab.tracks.forget(r)
		w.lab.records.forget(r)
	}
}

// stopTools shows the tools of a guest as it is without power.
func stopTools(vm *mo.VirtualMachine) {
	if vm.Guest == nil || vm.Guest.ToolsRunningStatus == "" {
		return
	}
	vm.Guest.ToolsRunningStatus = string(types.VirtualMachineToolsRunningStatusGuestToolsNotRunning)
	vm.Guest.GuestState = string(types.VirtualMachineGuestStateNotRunning)
	if vm.Guest.ToolsStatus == types.VirtualMachineToolsStatusToolsOk {
		vm.Guest.ToolsStatus = types.VirtualMachineToolsStatusToolsNotRunning
	}
}

// completeCapability says that changes can be tracked from hardware version 7 on.
func completeCapability(vm *mo.VirtualMachine) {
	isOld := vm.Config != nil && slices.Contains([]string{"vmx-03", "vmx-04", "vmx-3", "vmx-4"}, vm.Config.Version)
	vm.Capability.ChangeTrackingSupported = !isOld
}

// completeUplinks gives portgroups of uplinks the tag by which they are told from others.
func completeUplinks(group *simulator.DistributedVirtualPortgroup) {
	if strings.Contains(group.Name, "-DVUplinks") && len(group.Tag) == 0 {
		group.Tag = []types.Tag{{Key: "SYSTEM/DVS.UPLINKPG"}}
	}
}

func completeRuntime(runtime *types.VirtualMachineRuntimeInfo) {
	if runtime.FaultToleranceState == "" {
		runtime.FaultToleranceState = types.VirtualMachineFaultToleranceStateNotConfigured
	}
	if runtime.RecordReplayState == "" {
		runtime.RecordReplayState = types.VirtualMachineRecordReplayStateInactive
	}
}

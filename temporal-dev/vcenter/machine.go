package main

import (
	"strconv"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// machine is a virtual machine as a session sees it: the simulator's, with data behind its disks.
// The method names are the API's; the simulator finds them by reflection.
type machine struct {
	*simulator.VirtualMachine

	lab *lab
}

// CreateSnapshotTask freezes the bytes of every dependent disk.
func (m *machine) CreateSnapshotTask(ctx *simulator.Context, req *types.CreateSnapshot_Task) soap.HasFault {
	extended := &types.CreateSnapshotEx_Task{
		This: req.This, Name: req.Name, Description: req.Description, Memory: req.Memory,
	}
	if req.Quiesce {
		extended.QuiesceSpec = &types.VirtualMachineGuestQuiesceSpec{}
	}
	task := m.lab.task(ctx, m.Self, "createSnapshot", func() (anyType, fault) {
		return m.lab.takeSnapshot(ctx, m.VirtualMachine, extended)
	})
	return &methods.CreateSnapshot_TaskBody{Res: &types.CreateSnapshot_TaskResponse{Returnval: task}}
}

// CreateSnapshotExTask is CreateSnapshotTask with a specification of the guest's quiescing.
func (m *machine) CreateSnapshotExTask(ctx *simulator.Context, req *types.CreateSnapshotEx_Task) soap.HasFault {
	task := m.lab.task(ctx, m.Self, "createSnapshotEx", func() (anyType, fault) {
		return m.lab.takeSnapshot(ctx, m.VirtualMachine, req)
	})
	return &methods.CreateSnapshotEx_TaskBody{Res: &types.CreateSnapshotEx_TaskResponse{Returnval: task}}
}

// RemoveAllSnapshotsTask removes the tree and folds the data into the base disks.
func (m *machine) RemoveAllSnapshotsTask(ctx *simulator.Context, req *types.RemoveAllSnapshots_Task) soap.HasFault {
	task := m.lab.task(ctx, m.Self, "removeAllSnapshots", func() (anyType, fault) {
		gone := m.lab.snapshotsOf(m.VirtualMachine)
		if _, f := m.lab.inner(ctx, m.VirtualMachine.RemoveAllSnapshotsTask(ctx, req)); f != nil {
			return nil, f
		}
		return nil, m.lab.afterRemoval(ctx, m.VirtualMachine, gone, isTrueOr(req.Consolidate, true))
	})
	return &methods.RemoveAllSnapshots_TaskBody{Res: &types.RemoveAllSnapshots_TaskResponse{Returnval: task}}
}

// RevertToCurrentSnapshotTask goes back to the snapshot the machine runs on.
func (m *machine) RevertToCurrentSnapshotTask(
	ctx *simulator.Context, req *types.RevertToCurrentSnapshot_Task,
) soap.HasFault {
	body := new(methods.RevertToCurrentSnapshot_TaskBody)
	if m.Snapshot == nil || m.Snapshot.CurrentSnapshot == nil {
		body.Fault_ = soapFault(&types.NotFound{})
		return body
	}
	target := m.lab.snapshot(*m.Snapshot.CurrentSnapshot)
	task := m.lab.task(ctx, m.Self, "revertToCurrentSnapshot", func() (anyType, fault) {
		return nil, m.lab.revert(ctx, m.VirtualMachine, target, isTrueOr(req.SuppressPowerOn, false))
	})
	body.Res = &types.RevertToCurrentSnapshot_TaskResponse{Returnval: task}
	return body
}

// ConsolidateVMDisksTask folds files of chains that no snapshot needs any more. It ends with
// FileLocked while somebody else has one of them open.
func (m *machine) ConsolidateVMDisksTask(ctx *simulator.Context, _ *types.ConsolidateVMDisks_Task) soap.HasFault {
	task := m.lab.task(ctx, m.Self, "consolidateVMDisks", func() (anyType, fault) {
		defer m.lab.refreshConsolidation(ctx, m.VirtualMachine)
		if f := m.lab.fold(ctx, m.VirtualMachine); f != nil {
			return nil, f
		}
		return nil, nil
	})
	return &methods.ConsolidateVMDisks_TaskBody{Res: &types.ConsolidateVMDisks_TaskResponse{Returnval: task}}
}

// RenameTask changes the name everywhere it stands; files keep theirs.
func (m *machine) RenameTask(ctx *simulator.Context, req *types.Rename_Task) soap.HasFault {
	task := m.lab.task(ctx, m.Self, "rename", func() (anyType, fault) {
		if _, f := m.lab.inner(ctx, m.VirtualMachine.RenameTask(ctx, req)); f != nil {
			return nil, f
		}
		ctx.Update(m.VirtualMachine, []types.PropertyChange{
			{Name: "config.name", Val: m.Name}, {Name: "summary.config.name", Val: m.Name},
		})
		return nil, nil
	})
	return &methods.Rename_TaskBody{Res: &types.Rename_TaskResponse{Returnval: task}}
}

// PowerOnVMTask refuses a machine whose disk another running machine holds open for writing, and one
// with a static MAC address that hosts keep for themselves.
func (m *machine) PowerOnVMTask(ctx *simulator.Context, req *types.PowerOnVM_Task) soap.HasFault {
	task := m.lab.task(ctx, m.Self, "powerOn", func() (anyType, fault) {
		for _, disk := range disksOf(m.Config.Hardware.Device) {
			if f := m.lab.disks.openFault(m.Self, disk.backing.FileName, disk.backing.DiskMode); f != nil {
				return nil, f
			}
		}
		if f := addressFault(m.VirtualMachine); f != nil {
			return nil, f
		}
		if _, f := m.lab.inner(ctx, m.VirtualMachine.PowerOnVMTask(ctx, req)); f != nil {
			return nil, f
		}
		m.lab.passSetup(ctx, m.VirtualMachine)
		version := strconv.FormatInt(time.Now().UnixNano(), 10)
		ctx.Update(m.VirtualMachine, []types.PropertyChange{{Name: "config.changeVersion", Val: version}})
		m.lab.startTools(ctx, m.VirtualMachine)
		m.lab.stun(m.VirtualMachine)
		return nil, nil
	})
	return &methods.PowerOnVM_TaskBody{Res: &types.PowerOnVM_TaskResponse{Returnval: task}}
}

// passSetup takes back the wish to enter the firmware's setup: a start carries it out, whoever sees it.
func (l *lab) passSetup(ctx *simulator.Context, vm *simulator.VirtualMachine) {
	if boot := vm.Config.BootOptions; boot != nil && isTrueOr(boot.EnterBIOSSetup, false) {
		passed := *boot // snapshots share the old one
		passed.EnterBIOSSetup = types.NewBool(false)
		ctx.Update(vm, []types.PropertyChange{{Name: "config.bootOptions", Val: &passed}})
	}
}

// stun is the moment at which a change of changeTrackingEnabled takes effect.
func (l *lab) stun(vm *simulator.VirtualMachine) {
	l.tracks.sync(l, vm)
}

// startTools shows the guest's tools as running, as a guest does some time after its start.
func (l *lab) startTools(ctx *simulator.Context, vm *simulator.VirtualMachine) {
	if l.accounts.withoutTools(vm.Self) {
		return
	}
	ctx.Update(vm, []types.PropertyChange{
		{Name: "guest.toolsStatus", Val: types.VirtualMachineToolsStatusToolsOk},
		{Name: "guest.toolsRunningStatus", Val: string(types.VirtualMachineToolsRunningStatusGuestToolsRunning)},
		{Name: "guest.guestState", Val: string(types.VirtualMachineGuestStateRunning)},
		{Name: "summary.guest.toolsStatus", Val: types.VirtualMachineToolsStatusToolsOk},
		{Name: "summary.guest.toolsRunningStatus", Val: string(types.VirtualMachineToolsRunningStatusGuestToolsRunning)},
	})
}

func isTrueOr(value *bool, otherwise bool) bool {
	if value == nil {
		return otherwise
	}
	return *value
}

// runningUsers lists in which modes running machines other than the asking one have the file open.
func (g *diskGraph) runningUsers(f *diskFile, except ref) []types.VirtualDiskMode {
	var modes []types.VirtualDiskMode
	for user, mode := range f.users {
		vm := g.lab.machine(user)
		if user != except && vm != nil && vm.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOff {
			modes = append(modes, mode)
		}
	}
	return modes
}

// openFault tells why a machine cannot open a disk file in a mode; nil when it can. A running
// machine holds its leaf exclusively and the parents shared, so that a frozen parent can be opened
// elsewhere, but only in a mode that never writes to it.
func (g *diskGraph) openFault(vm ref, name, mode string) fault {
	g.mu.Lock()
	defer g.mu.Unlock()
	f := g.files[name]
	if f == nil {
		return nil
	}
	isReader := types.VirtualDiskMode(mode) == types.VirtualDiskModeIndependent_nonpersistent
	if f.locked || (!isReader && len(g.children(name)) > 0) {
		return fileLocked(name)
	}
	for _, other := range g.runningUsers(f, vm) {
		if !isReader || other != types.VirtualDiskModeIndependent_nonpersistent {
			return fileLocked(name)
		}
	}
	return nil
}

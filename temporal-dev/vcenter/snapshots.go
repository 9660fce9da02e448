package main

import (
	"errors"
	"os"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// snapshot is a snapshot as a session sees it.
type snapshot struct {
	*simulator.VirtualMachineSnapshot

	lab *lab
}

// RemoveSnapshotTask takes the snapshot out of the tree and folds its child's data into its file,
// as ESXi does. When a file is locked the snapshot is gone all the same, the task ends with
// FileLocked and the machine needs consolidation.
func (s *snapshot) RemoveSnapshotTask(ctx *simulator.Context, req *types.RemoveSnapshot_Task) soap.HasFault {
	vm := s.lab.machine(s.Vm)
	task := s.lab.task(ctx, s.Vm, "removeSnapshot", func() (anyType, fault) {
		if f := s.lab.leaseFault(s.Vm); f != nil {
			return nil, f
		}
		before := s.lab.snapshotsOf(vm)
		if _, f := s.lab.inner(ctx, s.VirtualMachineSnapshot.RemoveSnapshotTask(ctx, req)); f != nil {
			return nil, f
		}
		gone := s.lab.leaveTree(ctx, vm, before)
		return nil, s.lab.afterRemoval(ctx, vm, gone, isTrueOr(req.Consolidate, true))
	})
	return &methods.RemoveSnapshot_TaskBody{Res: &types.RemoveSnapshot_TaskResponse{Returnval: task}}
}

// RevertToSnapshotTask gives the machine the configuration and the bytes of the snapshot.
func (s *snapshot) RevertToSnapshotTask(ctx *simulator.Context, req *types.RevertToSnapshot_Task) soap.HasFault {
	vm := s.lab.machine(s.Vm)
	task := s.lab.task(ctx, s.Vm, "revertToSnapshot", func() (anyType, fault) {
		if _, f := s.lab.inner(ctx, s.VirtualMachineSnapshot.RevertToSnapshotTask(ctx, req)); f != nil {
			return nil, f
		}
		return nil, s.lab.revert(ctx, vm, s.VirtualMachineSnapshot, isTrueOr(req.SuppressPowerOn, false))
	})
	return &methods.RevertToSnapshot_TaskBody{Res: &types.RevertToSnapshot_TaskResponse{Returnval: task}}
}

// RenameSnapshot changes name and description in the tree.
func (s *snapshot) RenameSnapshot(ctx *simulator.Context, req *types.RenameSnapshot) soap.HasFault {
	vm := s.lab.machine(s.Vm)
	ctx.WithLock(vm, func() {
		node := findNode(vm.Snapshot.RootSnapshotList, s.Self)
		if req.Name != "" {
			node.Name = req.Name
		}
		if req.Description != "" {
			node.Description = req.Description
		}
		ctx.Update(vm, []types.PropertyChange{{Name: "snapshot.rootSnapshotList", Val: vm.Snapshot.RootSnapshotList}})
	})
	return &methods.RenameSnapshotBody{Res: new(types.RenameSnapshotResponse)}
}

// takeSnapshot records the machine in the tree and freezes the bytes of its dependent disks.
// Quiescing happens only with running tools; without them the wish is ignored, as on ESXi.
func (l *lab) takeSnapshot(
	ctx *simulator.Context, vm *simulator.VirtualMachine, req *types.CreateSnapshotEx_Task,
) (anyType, fault) {
	if vm.Guest.ToolsRunningStatus != string(types.VirtualMachineToolsRunningStatusGuestToolsRunning) {
		req.QuiesceSpec = nil
	}
	for _, disk := range disksOf(vm.Config.Hardware.Device) {
		if f := l.disks.openFault(vm.Self, disk.backing.FileName, disk.backing.DiskMode); f != nil {
			return nil, f
		}
	}
	l.stun(vm)
	result, f := l.inner(ctx, vm.CreateSnapshotExTask(ctx, req))
	if f != nil {
		return nil, f
	}
	taken := l.snapshot(result.(ref))
	l.disks.keepStateFile(vm, taken.Self)
	numberSnapshot(vm, taken.Self)
	if err := l.disks.freeze(vm, taken); err != nil {
		return nil, systemError(err)
	}
	ctx.Update(vm, []types.PropertyChange{{Name: "config.hardware.device", Val: vm.Config.Hardware.Device}})
	if err := l.tracks.advance(l, vm, taken); err != nil {
		return nil, systemError(err)
	}
	l.refreshConsolidation(ctx, vm)
	return result, nil
}

// numberSnapshot gives a new snapshot the number after the highest of its tree: the simulator counts
// from 1 again after a restart.
func numberSnapshot(vm *simulator.VirtualMachine, taken ref) {
	highest := int32(0)
	for _, r := range nodes(vm.Snapshot.RootSnapshotList) {
		if r != taken {
			highest = max(highest, findNode(vm.Snapshot.RootSnapshotList, r).Id)
		}
	}
	findNode(vm.Snapshot.RootSnapshotList, taken).Id = highest + 1
}

// freeze leaves the bytes of the dependent disks to the snapshot and moves the machine to children.
// The running file keeps its inode and takes the child's name, so that whoever has it open goes on
// writing to the running disk; the frozen copy takes the old name.
func (g *diskGraph) freeze(vm *simulator.VirtualMachine, taken *simulator.VirtualMachineSnapshot) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, disk := range disksOf(vm.Config.Hardware.Device) {
		if disk.isIndependent() {
			continue
		}
		f := g.load(disk.backing.FileName, vm.Self)
		running, child := g.extent(f), g.newChild(f, vm.Self)
		if err := os.Rename(running, g.extent(child)); err != nil {
			return err
		}
		if err := cloneFile(g.extent(child), running); err != nil {
			return errors.Join(err, os.Rename(g.extent(child), running))
		}
		if err := g.writeDescriptor(child, disk.CapacityInBytes, disk.backing.Uuid); err != nil {
			return err
		}
		f.frozen[taken.Self] = struct{}{}
		disk.backing.FileName = child.name
	}
	g.relink(vm.Config.Hardware.Device)
	g.relink(taken.Config.Hardware.Device)
	return nil
}

func (g *diskGraph) newChild(f *diskFile, owner ref) *diskFile {
	child := &diskFile{
		name: g.nextChild(f), parent: f.name, owner: owner,
		frozen: map[ref]struct{}{}, users: map[ref]types.VirtualDiskMode{},
	}
	g.files[child.name] = child
	return child
}

// snapshotsOf lists the snapshots in the tree of a machine.
func (l *lab) snapshotsOf(vm *simulator.VirtualMachine) []ref {
	if vm.Snapshot == nil {
		return nil
	}
	return nodes(vm.Snapshot.RootSnapshotList)
}

func nodes(tree []types.VirtualMachineSnapshotTree) []ref {
	var all []ref
	for _, node := range tree {
		all = append(append(all, node.Snapshot), nodes(node.ChildSnapshotList)...)
	}
	return all
}

func findNode(tree []types.VirtualMachineSnapshotTree, r ref) *types.VirtualMachineSnapshotTree {
	for i := range tree {
		if tree[i].Snapshot == r {
			return &tree[i]
		}
		if found := findNode(tree[i].ChildSnapshotList, r); found != nil {
			return found
		}
	}
	return nil
}

// leaveTree returns the snapshots that are gone, drops the objects the simulator left of removed
// children, and keeps the current snapshot one that exists.
func (l *lab) leaveTree(ctx *simulator.Context, vm *simulator.VirtualMachine, before []ref) []ref {
	left := map[ref]bool{}
	for _, r := range l.snapshotsOf(vm) {
		left[r] = true
	}
	var gone []ref
	for _, r := range before {
		if !left[r] {
			gone = append(gone, r)
			l.registry.Remove(l.context(), r)
		}
	}
	if vm.Snapshot != nil && vm.Snapshot.CurrentSnapshot != nil && !left[*vm.Snapshot.CurrentSnapshot] {
		current := l.lastAncestor(vm, before, left)
		ctx.Update(vm, []types.PropertyChange{{Name: "snapshot.currentSnapshot", Val: current}})
	}
	return gone
}

// lastAncestor returns the last snapshot of the old order, parents first, that is still there.
func (l *lab) lastAncestor(vm *simulator.VirtualMachine, before []ref, left map[ref]bool) *ref {
	var last *ref
	for i, r := range before {
		if r == *vm.Snapshot.CurrentSnapshot {
			break
		}
		if left[r] {
			last = &before[i]
		}
	}
	return last
}

// revert restores the configuration and the bytes of a snapshot. The machine is off afterwards
// unless the snapshot holds its memory. Change tracking starts anew: old ids are worthless.
func (l *lab) revert(
	ctx *simulator.Context, vm *simulator.VirtualMachine, target *simulator.VirtualMachineSnapshot, isSuppressed bool,
) fault {
	node := findNode(vm.Snapshot.RootSnapshotList, target.Self)
	state := node.State
	if isSuppressed {
		state = types.VirtualMachinePowerStatePoweredOff
	}
	config := simulator.Checkpoint(target).(*mo.VirtualMachineSnapshot).Config
	if err := l.disks.thaw(vm, config.Hardware.Device); err != nil {
		return systemError(err)
	}
	ctx.Update(vm, []types.PropertyChange{
		{Name: "config.hardware.numCPU", Val: config.Hardware.NumCPU},
		{Name: "config.hardware.memoryMB", Val: config.Hardware.MemoryMB},
		{Name: "config.annotation", Val: config.Annotation},
		{Name: "config.hardware.device", Val: config.Hardware.Device},
		{Name: "runtime.powerState", Val: state},
		{Name: "summary.runtime.powerState", Val: state},
	})
	l.tracks.forget(vm.Self)
	l.stun(vm)
	l.refreshConsolidation(ctx, vm)
	return nil
}

// thaw gives every dependent disk of the restored devices a new child with the frozen bytes, and
// deletes the files the machine ran on.
func (g *diskGraph) thaw(vm *simulator.VirtualMachine, devices []types.BaseVirtualDevice) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, disk := range disksOf(vm.Config.Hardware.Device) {
		f := g.files[disk.backing.FileName]
		if f == nil || disk.isIndependent() || f.parent == "" || len(f.frozen) > 0 || len(f.users) > 1 {
			continue
		}
		if err := g.remove(f); err != nil {
			return err
		}
	}
	for _, disk := range disksOf(devices) {
		if disk.isIndependent() {
			continue
		}
		frozen := g.load(disk.backing.FileName, vm.Self)
		child := g.newChild(frozen, vm.Self)
		if err := cloneFile(g.extent(frozen), g.extent(child)); err != nil {
			return err
		}
		if err := g.writeDescriptor(child, disk.CapacityInBytes, disk.backing.Uuid); err != nil {
			return err
		}
		disk.backing.FileName, disk.backing.ChangeId = child.name, ""
	}
	g.relink(devices)
	return nil
}

package main

import (
	"os"
	"sort"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// afterRemoval lets go of what removed snapshots had frozen and folds it away unless told not to.
func (l *lab) afterRemoval(ctx *simulator.Context, vm *simulator.VirtualMachine, gone []ref, folds bool) fault {
	l.disks.release(gone)
	l.tracks.dropSnapshots(gone)
	l.stun(vm)
	defer l.refreshConsolidation(ctx, vm)
	if !folds {
		return nil
	}
	return l.fold(ctx, vm)
}

func (g *diskGraph) release(snapshots []ref) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.dropStateFiles(snapshots)
	for _, f := range g.files {
		for _, r := range snapshots {
			delete(f.frozen, r)
		}
	}
}

// fold merges every file that no snapshot needs with its only child, and deletes children that
// nobody needs. Data never moves: the child's extent takes the parent's name. Files with several
// children stay, as on ESXi. The first locked file is reported after all others are done.
func (l *lab) fold(ctx *simulator.Context, vm *simulator.VirtualMachine) fault {
	g := l.disks
	g.mu.Lock()
	renamed, locked, err := g.foldAll(vm.Self)
	if len(renamed) > 0 {
		l.rename(vm, renamed)
	}
	g.mu.Unlock()
	if len(renamed) > 0 {
		ctx.Update(vm, []types.PropertyChange{{Name: "config.hardware.device", Val: vm.Config.Hardware.Device}})
	}
	if err != nil {
		return systemError(err)
	}
	if locked != "" {
		return fileLocked(locked)
	}
	return nil
}

// foldAll returns the new name of every file that was merged, and the name of a locked one.
func (g *diskGraph) foldAll(vm ref) (renamed map[string]string, locked string, err error) {
	renamed = map[string]string{}
	for {
		before := len(g.files)
		for _, f := range g.owned(vm) {
			var isLocked bool
			if isLocked, err = g.foldOne(f, renamed); err != nil {
				return renamed, locked, err
			}
			if isLocked {
				locked = f.name
			}
		}
		if len(g.files) == before {
			return renamed, locked, nil
		}
		locked = ""
	}
}

func (g *diskGraph) owned(vm ref) []*diskFile {
	var files []*diskFile
	for _, f := range g.files {
		if f.owner == vm {
			files = append(files, f)
		}
	}
	sort.Slice(files, func(i, j int) bool { return files[i].name < files[j].name })
	return files
}

// foldOne merges or deletes one file if nobody needs it; true when a lock forbids that.
func (g *diskGraph) foldOne(f *diskFile, renamed map[string]string) (bool, error) {
	if g.files[f.name] != f || len(f.frozen) > 0 {
		return false, nil
	}
	children := g.children(f.name)
	switch {
	case len(children) == 1:
		if f.locked || children[0].locked || len(f.users) > 0 {
			return true, nil
		}
		return false, g.merge(f, children[0], renamed)
	case len(children) == 0 && f.parent != "" && len(f.users) == 0:
		return f.locked, g.removeUnlocked(f)
	}
	return false, nil
}

func (g *diskGraph) removeUnlocked(f *diskFile) error {
	if f.locked {
		return nil
	}
	return g.remove(f)
}

// merge gives the child's bytes, users and children to its parent.
func (g *diskGraph) merge(parent, child *diskFile, renamed map[string]string) error {
	if err := os.Rename(g.extent(child), g.extent(parent)); err != nil {
		return err
	}
	if err := os.Remove(g.lab.resolve(child.name)); err != nil && !os.IsNotExist(err) {
		return err
	}
	parent.users, parent.frozen = child.users, child.frozen
	delete(g.files, child.name)
	for old, now := range renamed {
		if now == child.name {
			renamed[old] = parent.name
		}
	}
	renamed[child.name] = parent.name
	for _, grandchild := range g.children(child.name) {
		grandchild.parent = parent.name
		info, err := os.Stat(g.extent(grandchild))
		if err != nil {
			return err
		}
		if err := g.writeDescriptor(grandchild, info.Size(), uuidOf(g.lab.resolve(grandchild.name))); err != nil {
			return err
		}
	}
	return nil
}

// rename writes the new file names into the configurations of the machine and its snapshots.
func (l *lab) rename(vm *simulator.VirtualMachine, renamed map[string]string) {
	configs := [][]types.BaseVirtualDevice{vm.Config.Hardware.Device}
	for _, r := range l.snapshotsOf(vm) {
		if s := l.snapshot(r); s != nil {
			configs = append(configs, s.Config.Hardware.Device)
		}
	}
	for _, devices := range configs {
		for _, disk := range disksOf(devices) {
			if now, ok := renamed[disk.backing.FileName]; ok {
				disk.backing.FileName = now
			}
		}
		l.disks.relink(devices)
	}
}

// refreshConsolidation sets the property by which ESXi says that a chain of the running machine
// holds a file that no snapshot needs.
func (l *lab) refreshConsolidation(ctx *simulator.Context, vm *simulator.VirtualMachine) {
	needed := l.disks.needsConsolidation(vm)
	if vm.Runtime.ConsolidationNeeded == needed {
		return
	}
	ctx.Update(vm, []types.PropertyChange{
		{Name: "runtime.consolidationNeeded", Val: needed},
		{Name: "summary.runtime.consolidationNeeded", Val: needed},
	})
}

func (g *diskGraph) needsConsolidation(vm *simulator.VirtualMachine) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, disk := range disksOf(vm.Config.Hardware.Device) {
		f := g.files[disk.backing.FileName]
		if f == nil || f.owner != vm.Self {
			continue
		}
		for f.parent != "" && g.files[f.parent] != nil {
			f = g.files[f.parent]
			if len(f.frozen) == 0 && len(g.children(f.name)) == 1 {
				return true
			}
		}
	}
	return false
}

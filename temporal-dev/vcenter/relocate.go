package main

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// CloneVMTask copies the bytes of the disks, of a snapshot's if one is named.
func (m *machine) CloneVMTask(ctx *simulator.Context, req *types.CloneVM_Task) soap.HasFault {
	task := m.lab.task(ctx, m.Self, "cloneVm", func() (anyType, fault) {
		if f := m.lab.cloneFault(m.VirtualMachine, &req.Spec.Location); f != nil {
			return nil, f
		}
		devices := m.Config.Hardware.Device
		if req.Spec.Snapshot != nil {
			s := m.lab.snapshot(*req.Spec.Snapshot)
			if s == nil {
				return nil, &types.InvalidArgument{InvalidProperty: "spec.snapshot"}
			}
			devices = s.Config.Hardware.Device
		}
		var sources []string
		for _, disk := range disksOf(devices) {
			sources = append(sources, m.lab.resolve(m.lab.disks.extentOf(disk.backing.FileName)))
		}
		result, f := m.lab.inner(ctx, m.VirtualMachine.CloneVMTask(ctx, req))
		if f != nil {
			return nil, f
		}
		made := m.lab.machine(result.(ref))
		ctx.WithLock(made, func() {
			f = m.lab.fillClone(made, sources)
			if made.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn {
				m.lab.startTools(ctx, made)
			}
			m.lab.records.touch(made.Self)
			m.lab.records.save(made.Self)
		})
		return result, f
	})
	return &methods.CloneVM_TaskBody{Res: &types.CloneVM_TaskResponse{Returnval: task}}
}

// cloneFault tells why a clone cannot be where it is wanted; nil when it can.
func (l *lab) cloneFault(vm *simulator.VirtualMachine, location *types.VirtualMachineRelocateSpec) fault {
	host, file := *vm.Runtime.Host, vm.Config.Files.VmPathName
	if location.Host != nil {
		host = *location.Host
	}
	if location.Datastore != nil {
		store, ok := l.registry.Get(*location.Datastore).(*simulator.Datastore)
		if !ok {
			return &types.InvalidArgument{InvalidProperty: "spec.location.datastore"}
		}
		file = fmt.Sprintf("[%s] x", store.Name)
	}
	return l.hostFault(host, []string{file}, &types.VirtualMachineConfigSpec{})
}

func (l *lab) fillClone(made *simulator.VirtualMachine, sources []string) fault {
	for i, disk := range disksOf(made.Config.Hardware.Device) {
		if i >= len(sources) {
			return nil
		}
		target := l.resolve(l.disks.extentOf(disk.backing.FileName))
		if err := cloneFile(sources[i], target); err != nil {
			return systemError(err)
		}
	}
	return nil
}

// RelocateVMTask moves the folder of the machine when another datastore is named, also while it
// runs. Disks in other folders stay where they are.
func (m *machine) RelocateVMTask(ctx *simulator.Context, req *types.RelocateVM_Task) soap.HasFault {
	task := m.lab.task(ctx, m.Self, "relocateVm", func() (anyType, fault) {
		before := m.lab.shelves(m.VirtualMachine)
		if _, f := m.lab.inner(ctx, m.VirtualMachine.RelocateVMTask(ctx, req)); f != nil {
			return nil, f
		}
		for i, now := range m.lab.shelves(m.VirtualMachine) {
			m.lab.registry.RemoveReference(ctx, before[i].object, before[i].machines, m.Self)
			m.lab.registry.AddReference(ctx, now.object, now.machines, m.Self)
		}
		if req.Spec.Datastore == nil {
			return nil, nil
		}
		store, ok := m.lab.registry.Get(*req.Spec.Datastore).(*simulator.Datastore)
		if !ok {
			return nil, &types.InvalidArgument{InvalidProperty: "spec.datastore"}
		}
		if f := m.lab.moveHome(ctx, m.VirtualMachine, store); f != nil {
			return nil, f
		}
		m.lab.registry.AddReference(ctx, store, &store.Vm, m.Self)
		m.lab.stun(m.VirtualMachine)
		return nil, nil
	})
	return &methods.RelocateVM_TaskBody{Res: &types.RelocateVM_TaskResponse{Returnval: task}}
}

// shelf is an object that lists its machines.
type shelf struct {
	object   mo.Reference
	machines *[]ref
}

// shelves returns the pool and the host that list a machine; the simulator leaves their lists as they
// are when it moves one.
func (l *lab) shelves(vm *simulator.VirtualMachine) []shelf {
	pool := l.registry.Get(*vm.ResourcePool).(*simulator.ResourcePool)
	host := l.registry.Get(*vm.Runtime.Host).(*simulator.HostSystem)
	return []shelf{{pool, &pool.Vm}, {host, &host.Vm}}
}

// moveHome moves the folder of a machine and writes the new names wherever the old ones stood.
func (l *lab) moveHome(ctx *simulator.Context, vm *simulator.VirtualMachine, store *simulator.Datastore) fault {
	var old object.DatastorePath
	if !old.FromString(vm.Config.Files.VmPathName) || old.Datastore == store.Name {
		return nil
	}
	before := fmt.Sprintf("[%s] %s", old.Datastore, path.Dir(old.Path))
	after := l.freeFolder(fmt.Sprintf("[%s] %s", store.Name, path.Dir(old.Path)))
	if err := moveFolder(l.resolve(before), l.resolve(after)); err != nil {
		return systemError(err)
	}
	moved := func(name string) string {
		if rest, is := strings.CutPrefix(name, before); is && (rest == "" || rest[0] == '/') {
			return after + rest
		}
		return name
	}
	g := l.disks
	g.mu.Lock()
	renamed, err := g.renameAll(moved)
	l.rename(vm, renamed)
	g.mu.Unlock()
	files := &vm.Config.Files
	for _, name := range []*string{
		&files.VmPathName, &files.SnapshotDirectory, &files.SuspendDirectory, &files.LogDirectory,
	} {
		*name = moved(*name)
	}
	for _, disk := range disksOf(vm.Config.Hardware.Device) {
		if strings.HasPrefix(disk.backing.FileName, after+"/") {
			disk.backing.Datastore = &store.Self
		}
	}
	ctx.Update(vm, []types.PropertyChange{
		{Name: "config.files", Val: *files}, {Name: "summary.config.vmPathName", Val: files.VmPathName},
		{Name: "config.hardware.device", Val: vm.Config.Hardware.Device},
	})
	return asFault(err)
}

// freeFolder returns the name, or the first with a number that is free.
func (l *lab) freeFolder(name string) string {
	free := name
	for n := 1; ; n++ {
		if _, err := os.Stat(l.resolve(free)); err != nil {
			return free
		}
		free = fmt.Sprintf("%s_%d", name, n)
	}
}

// renameAll gives new names to files whose bytes have moved, and writes them into the descriptors.
func (g *diskGraph) renameAll(moved func(string) string) (map[string]string, error) {
	renamed := map[string]string{}
	var all []*diskFile
	for name, f := range g.files {
		if now := moved(name); now != name {
			renamed[name] = now
			delete(g.files, name)
			f.name = now
			all = append(all, f)
		}
	}
	for _, f := range all {
		g.files[f.name] = f
	}
	var failures []error
	for _, f := range g.files {
		now, has := renamed[f.parent]
		if !has {
			continue
		}
		f.parent = now
		info, err := os.Stat(g.extent(f))
		if err == nil {
			err = g.writeDescriptor(f, info.Size(), uuidOf(g.lab.resolve(f.name)))
		}
		failures = append(failures, err)
	}
	for snapshot, name := range g.states {
		g.states[snapshot] = moved(name)
	}
	return renamed, errors.Join(failures...)
}

// moveFolder renames a folder, or copies its files to another file system and deletes them here.
func moveFolder(from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	err := os.Rename(from, to)
	if !errors.Is(err, syscall.EXDEV) {
		return err
	}
	if err := os.Mkdir(to, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if err := cloneFile(filepath.Join(from, entry.Name()), filepath.Join(to, entry.Name())); err != nil {
			return err
		}
	}
	return os.RemoveAll(from)
}

package main

import (
	"os"
	"path"
	"slices"
	"strings"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// folder is a folder as a session sees it.
type folder struct {
	*simulator.Folder

	lab *lab
}

// CreateVMTask refuses places that are not there; the machine is on disk, with its vmx, when the task ends.
func (f *folder) CreateVMTask(ctx *simulator.Context, req *types.CreateVM_Task) soap.HasFault {
	task := f.lab.task(ctx, f.Self, "createVm", func() (anyType, fault) {
		if refused := f.lab.placeFault(&req.Config, req.Pool, req.Host); refused != nil {
			return nil, refused
		}
		result, refused := f.createNamed(ctx, req)
		if refused != nil {
			return nil, refused
		}
		made := &reference{Self: result.(ref)}
		ctx.WithLock(made, func() { f.lab.records.save(made.Self) })
		return result, nil
	})
	return &methods.CreateVM_TaskBody{Res: &types.CreateVM_TaskResponse{Returnval: task}}
}

// RegisterVMTask makes a machine of a vmx: its hardware, identity, advanced options and disks. A
// template is refused. A name that is not given is the one in the file.
func (f *folder) RegisterVMTask(ctx *simulator.Context, req *types.RegisterVM_Task) soap.HasFault {
	task := f.lab.task(ctx, f.Self, "registerVm", func() (anyType, fault) {
		return f.lab.register(ctx, f.Folder, req)
	})
	return &methods.RegisterVM_TaskBody{Res: &types.RegisterVM_TaskResponse{Returnval: task}}
}

func (l *lab) register(ctx *simulator.Context, f *simulator.Folder, req *types.RegisterVM_Task) (anyType, fault) {
	vmx, refused := l.vmxToRegister(req)
	if refused != nil {
		return nil, refused
	}
	named := *req
	if named.Name == "" {
		named.Name = vmx.values["displayname"]
	}
	if l.registry.FindByName(named.Name, f.ChildEntity) != nil {
		return nil, &types.DuplicateName{Name: named.Name, Object: f.Self}
	}
	result, refused := l.registerBare(ctx, f, &named)
	if refused != nil {
		return nil, refused
	}
	vm := l.machine(result.(ref))
	ctx.WithLock(vm, func() {
		if refused = l.equip(ctx, vm, vmx); refused == nil {
			l.records.touch(vm.Self)
			l.records.save(vm.Self)
		}
	})
	if refused != nil {
		vm.UnregisterVM(ctx, &types.UnregisterVM{This: vm.Self})
		return nil, refused
	}
	return result, nil
}

// vmxToRegister reads the file that is asked for, or tells what is wrong with it.
func (l *lab) vmxToRegister(req *types.RegisterVM_Task) (*vmxFile, fault) {
	if req.AsTemplate {
		return nil, &types.NotSupported{}
	}
	if req.Pool == nil {
		return nil, &types.InvalidArgument{InvalidProperty: "pool"}
	}
	var p object.DatastorePath
	if !p.FromString(req.Path) || path.Ext(p.Path) != ".vmx" {
		return nil, &types.InvalidDatastorePath{DatastorePath: req.Path}
	}
	file := l.resolve(req.Path)
	if file == "" {
		return nil, &types.InvalidDatastore{Name: p.Datastore}
	}
	for _, entity := range l.registry.All("VirtualMachine") {
		if vm := l.machine(entity.Reference()); vm != nil && vm.Config.Files.VmPathName == req.Path {
			return nil, &types.AlreadyExists{Name: vm.Name}
		}
	}
	vmx, err := readVMX(file, req.Path)
	if os.IsNotExist(err) {
		return nil, &types.NotFound{}
	}
	if err != nil {
		return nil, &types.InvalidVmConfig{Property: "configSpec.files.vmPathName"}
	}
	return vmx, nil
}

// registerBare has the simulator register a machine, which will have no hardware of its own. The
// simulator wants a log, and an nvram of the machine's name, beside the vmx.
func (l *lab) registerBare(
	ctx *simulator.Context, f *simulator.Folder, req *types.RegisterVM_Task,
) (anyType, fault) {
	spec := types.VirtualMachineConfigSpec{Files: &types.VirtualMachineFileInfo{VmPathName: req.Path}}
	if refused := l.placeFault(&spec, *req.Pool, req.Host); refused != nil {
		return nil, refused
	}
	home := path.Dir(l.resolve(req.Path))
	nvram, log := path.Join(home, req.Name+".nvram"), path.Join(home, "vmware.log")
	if _, err := os.Stat(nvram); err != nil {
		defer os.Remove(nvram)
	}
	for _, file := range []string{nvram, log} {
		_ = os.Chmod(file, 0o600) // the simulator makes logs that their owner cannot read
		out, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, systemError(err)
		}
		_ = out.Close()
	}
	return l.inner(ctx, f.RegisterVMTask(ctx, req))
}

// equip gives a bare machine what its vmx says.
func (l *lab) equip(ctx *simulator.Context, vm *simulator.VirtualMachine, vmx *vmxFile) fault {
	spec := vmx.spec()
	if l.isTaken(vm.Self, spec.InstanceUuid) {
		spec.InstanceUuid = "" // a copy gets an identity of its own
	}
	for _, change := range spec.DeviceChange {
		switch backing := change.GetVirtualDeviceConfigSpec().Device.GetVirtualDevice().Backing.(type) {
		case *types.VirtualDiskFlatVer2BackingInfo:
			backing.Uuid = uuidOf(l.resolve(backing.FileName))
		case *types.VirtualEthernetCardNetworkBackingInfo:
			l.connect(vm, backing)
		}
	}
	if f := l.hostFault(*vm.Runtime.Host, filesOfDisks(&spec), &spec); f != nil {
		return f
	}
	reply := vm.ReconfigVMTask(ctx, &types.ReconfigVM_Task{This: vm.Self, Spec: spec})
	if _, f := l.inner(ctx, reply); f != nil {
		return f
	}
	l.refreshConsolidation(ctx, vm)
	listNvram(vm, vmx)
	return nil
}

// listNvram lists the file of the firmware that the vmx names, where the simulator takes one of the machine's name.
func listNvram(vm *simulator.VirtualMachine, vmx *vmxFile) {
	name := vmx.values["nvram"]
	if name == "" || vm.LayoutEx == nil {
		return
	}
	isListed := false
	vm.LayoutEx.File = slices.DeleteFunc(vm.LayoutEx.File, func(file types.VirtualMachineFileLayoutExFileInfo) bool {
		isNvram := file.Type == string(types.VirtualMachineFileLayoutExFileTypeNvram)
		defer func() { isListed = isListed || isNvram }()
		return isNvram && isListed
	})
	for i := range vm.LayoutEx.File {
		if file := &vm.LayoutEx.File[i]; file.Type == string(types.VirtualMachineFileLayoutExFileTypeNvram) {
			file.Name = vmx.datastorePath(name)
		}
	}
}

// connect moves a card to some network when the one in the file is not there.
func (l *lab) connect(vm *simulator.VirtualMachine, backing *types.VirtualEthernetCardNetworkBackingInfo) {
	host, ok := l.registry.Get(*vm.Runtime.Host).(*simulator.HostSystem)
	if !ok || l.registry.FindByName(backing.DeviceName, host.Network) != nil {
		return
	}
	for _, r := range host.Network {
		if r.Type == "Network" {
			backing.DeviceName = l.registry.Get(r).(interface{ GetName() string }).GetName()
			return
		}
	}
}

// isTaken tells whether another machine has the identity.
func (l *lab) isTaken(except ref, instance string) bool {
	for _, entity := range l.registry.All("VirtualMachine") {
		vm := l.machine(entity.Reference())
		if vm != nil && vm.Self != except && strings.EqualFold(vm.Config.InstanceUuid, instance) {
			return true
		}
	}
	return false
}

// UnregisterVM forgets the machine and leaves its files, from which it can be registered again.
func (m *machine) UnregisterVM(ctx *simulator.Context, req *types.UnregisterVM) soap.HasFault {
	snapshots := m.lab.snapshotsOf(m.VirtualMachine)
	m.lab.records.touch(m.Self)
	m.lab.records.save(m.Self)
	reply := m.VirtualMachine.UnregisterVM(ctx, req)
	if reply.Fault() == nil {
		m.lab.dropSnapshotObjects(snapshots)
	}
	return reply
}

// DestroyTask deletes the machine with all its files, unless another running machine has one open.
func (m *machine) DestroyTask(ctx *simulator.Context, req *types.Destroy_Task) soap.HasFault {
	task := m.lab.task(ctx, m.Self, "destroy", func() (anyType, fault) {
		if name := m.lab.disks.heldByOthers(m.Self); name != "" {
			return nil, fileLocked(name)
		}
		snapshots := m.lab.snapshotsOf(m.VirtualMachine)
		files := m.lab.disks.filesOf(m.Self)
		if _, f := m.lab.inner(ctx, m.VirtualMachine.DestroyTask(ctx, req)); f != nil {
			return nil, f
		}
		m.lab.dropSnapshotObjects(snapshots)
		for _, file := range files {
			if err := m.lab.disks.delete(file); err != nil {
				return nil, systemError(err)
			}
		}
		return nil, nil
	})
	return &methods.Destroy_TaskBody{Res: &types.Destroy_TaskResponse{Returnval: task}}
}

func (l *lab) dropSnapshotObjects(snapshots []ref) {
	for _, r := range snapshots {
		l.registry.Remove(l.context(), r)
	}
}

// heldByOthers returns a file of a machine that another running machine has open; empty: none.
func (g *diskGraph) heldByOthers(vm ref) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, f := range g.owned(vm) {
		if f.locked || len(g.runningUsers(f, vm)) > 0 {
			return f.name
		}
	}
	return ""
}

// filesOf lists the disk files that belong to a machine.
func (g *diskGraph) filesOf(vm ref) []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var names []string
	for _, f := range g.owned(vm) {
		names = append(names, f.name)
	}
	return names
}

// delete removes a disk file that may be gone already.
func (g *diskGraph) delete(name string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	f := g.files[name]
	if f == nil {
		f = &diskFile{name: name, parent: parentHint(g.lab.resolve(name))}
	}
	return g.remove(f)
}

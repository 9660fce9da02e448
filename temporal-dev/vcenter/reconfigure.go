package main

import (
	"fmt"
	"log"
	"os"
	"strings"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// ReconfigVMTask checks what ESXi checks about disks before the simulator changes the machine:
// locks of files to attach, extension of disks with snapshots, support of change tracking.
func (m *machine) ReconfigVMTask(ctx *simulator.Context, req *types.ReconfigVM_Task) soap.HasFault {
	task := m.lab.task(ctx, m.Self, "reconfigVm", func() (anyType, fault) {
		if f := m.lab.hostFault(*m.Runtime.Host, filesOfDisks(&req.Spec), &req.Spec); f != nil {
			return nil, f
		}
		if f := m.lab.refusal(m.VirtualMachine, &req.Spec); f != nil {
			return nil, f
		}
		giveKeys(m.Config.Hardware.Device, &req.Spec)
		if _, f := m.lab.inner(ctx, m.VirtualMachine.ReconfigVMTask(ctx, req)); f != nil {
			return nil, f
		}
		if err := m.lab.disks.dropDestroyed(destroyed(&req.Spec)); err != nil {
			return nil, systemError(err)
		}
		m.lab.afterReconfigure(ctx, m.VirtualMachine, &req.Spec)
		return nil, nil
	})
	return &methods.ReconfigVM_TaskBody{Res: &types.ReconfigVM_TaskResponse{Returnval: task}}
}

// refusal returns the fault a real host answers with; nil when it would obey.
func (l *lab) refusal(vm *simulator.VirtualMachine, spec *types.VirtualMachineConfigSpec) fault {
	if isTrueOr(spec.ChangeTrackingEnabled, false) && !vm.Capability.ChangeTrackingSupported {
		return &types.InvalidVmConfig{Property: "configSpec.changeTrackingEnabled"}
	}
	if spec.ChangeVersion != "" && spec.ChangeVersion != vm.Config.ChangeVersion {
		return &types.ConcurrentAccess{}
	}
	for i, change := range spec.DeviceChange {
		c := change.GetVirtualDeviceConfigSpec()
		disk, ok := c.Device.(*types.VirtualDisk)
		if !ok {
			continue
		}
		if f := l.diskRefusal(vm, c, disk, int32(i)); f != nil {
			return f
		}
	}
	return nil
}

func (l *lab) diskRefusal(
	vm *simulator.VirtualMachine, c *types.VirtualDeviceConfigSpec, disk *types.VirtualDisk, index int32,
) fault {
	backing, ok := disk.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
	if !ok {
		return nil
	}
	invalid := &types.InvalidDeviceOperation{InvalidDeviceSpec: types.InvalidDeviceSpec{DeviceIndex: index}}
	switch c.Operation {
	case types.VirtualDeviceConfigSpecOperationAdd:
		if c.FileOperation != "" {
			return nil
		}
		return l.attachRefusal(vm, backing)
	case types.VirtualDeviceConfigSpecOperationEdit:
		old, _ := object.VirtualDeviceList(vm.Config.Hardware.Device).FindByKey(disk.Key).(*types.VirtualDisk)
		if old != nil && disk.CapacityInBytes > old.CapacityInBytes && l.disks.hasParent(backing.FileName) {
			return invalid
		}
	case types.VirtualDeviceConfigSpecOperationRemove:
		if c.FileOperation == types.VirtualDeviceConfigSpecFileOperationDestroy {
			return l.disks.openFault(vm.Self, backing.FileName, backing.DiskMode)
		}
	}
	return nil
}

// attachRefusal checks an existing file that a machine wants to have as a disk, and makes ready
// what the simulator does not know: a nonpersistent disk of a running machine gets a redo log.
func (l *lab) attachRefusal(vm *simulator.VirtualMachine, backing *types.VirtualDiskFlatVer2BackingInfo) fault {
	file := l.resolve(backing.FileName)
	if _, err := os.Stat(file); file == "" || err != nil {
		return &types.FileNotFound{FileFault: types.FileFault{File: backing.FileName}}
	}
	if f := l.disks.openFault(vm.Self, backing.FileName, backing.DiskMode); f != nil {
		return f
	}
	if backing.Uuid == "" {
		backing.Uuid = uuidOf(file)
	}
	isOn := vm.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn
	if isOn && strings.HasSuffix(backing.DiskMode, "nonpersistent") {
		if err := l.disks.openRedo(vm.Self, backing.FileName); err != nil {
			return systemError(err)
		}
	}
	return nil
}

// afterReconfigure publishes what the simulator changes without telling anybody.
func (l *lab) afterReconfigure(
	ctx *simulator.Context, vm *simulator.VirtualMachine, spec *types.VirtualMachineConfigSpec,
) {
	if spec.ChangeTrackingEnabled != nil {
		ctx.Update(vm, []types.PropertyChange{
			{Name: "config.changeTrackingEnabled", Val: *spec.ChangeTrackingEnabled},
		})
	}
	completeCapability(&vm.VirtualMachine) // there may be another hardware version
	l.refreshConsolidation(ctx, vm)
}

func (g *diskGraph) hasParent(name string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	f := g.files[name]
	return f != nil && f.parent != ""
}

// openRedo makes the redo log that takes the writes of a nonpersistent disk; detaching deletes it.
// Here it holds the whole disk, so that whoever plays the guest reads and writes one file.
func (g *diskGraph) openRedo(vm ref, name string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	f := g.load(name, vm)
	redo := g.redoName(vm, name)
	if err := cloneFile(g.extent(f), redo); err != nil {
		return err
	}
	g.redos[redoKey(vm, name)] = redo
	return nil
}

func (g *diskGraph) redoName(vm ref, name string) string {
	return fmt.Sprintf("%s.REDO_%s", g.lab.resolve(name), contentID(vm.Value + name)[:6])
}

func redoKey(vm ref, name string) string { return vm.Value + " " + name }

// dropRedos deletes the redo logs of disks that the machine no longer has.
func (g *diskGraph) dropRedos(vm ref) {
	for key, redo := range g.redos {
		name, isOurs := strings.CutPrefix(key, vm.Value+" ")
		if !isOurs {
			continue
		}
		if f := g.files[name]; f != nil {
			if _, has := f.users[vm]; has {
				continue
			}
		}
		delete(g.redos, key)
		if err := os.Remove(redo); err != nil {
			log.Printf("redo log: %s", err)
		}
	}
}

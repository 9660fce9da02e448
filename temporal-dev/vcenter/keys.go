package main

import (
	"regexp"
	"strings"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// First keys of devices as hosts give them: a SCSI controller's follows from its bus, a disk's from
// the bus and the unit. So a disk that comes back to its place has its old key.
const (
	firstController = 1000
	firstDisk       = 2000
	busLength       = 16 // units of a bus
	controllerUnit  = 7  // the unit of the controller itself
)

// createNamed creates a machine, with the keys that a host gives to devices. The simulator adds the
// devices of a machine twice when its name has to be escaped, so such a name is given afterwards.
func (f *folder) createNamed(ctx *simulator.Context, req *types.CreateVM_Task) (anyType, fault) {
	giveKeys(nil, &req.Config)
	name := escapedName(req.Config.Name)
	if !strings.Contains(name, "%") {
		return f.lab.inner(ctx, f.Folder.CreateVMTask(ctx, req))
	}
	if f.lab.registry.FindByName(name, f.ChildEntity) != nil {
		return nil, &types.DuplicateName{Name: name, Object: f.Self}
	}
	plain := *req
	plain.Config.Name = "unnamed-" + contentID(name+time.Now().String())
	made, refused := f.lab.inner(ctx, f.Folder.CreateVMTask(ctx, &plain))
	if refused != nil {
		return nil, refused
	}
	vm := f.lab.machine(made.(ref))
	ctx.WithLock(vm, func() {
		ctx.Update(vm, []types.PropertyChange{
			{Name: "name", Val: name}, {Name: "config.name", Val: name}, {Name: "summary.config.name", Val: name},
		})
	})
	return made, nil
}

var escape = regexp.MustCompile("%(2[fF]|5[cC]|25)|[%/\\\\]")

// escapedName writes a name as vCenter keeps it: a slash, a backslash and a percent sign that begins
// no escape are escaped.
func escapedName(name string) string {
	return escape.ReplaceAllStringFunc(name, func(found string) string {
		switch found {
		case "/":
			return "%2f"
		case "\\":
			return "%5c"
		case "%":
			return "%25"
		}
		return found
	})
}

// giveKeys replaces the temporary keys of controllers and disks that are added to the devices there are.
func giveKeys(existing []types.BaseVirtualDevice, spec *types.VirtualMachineConfigSpec) {
	buses := map[int32]int32{} // by the controller's key
	taken := map[int32]bool{}
	for _, device := range existing {
		d := device.GetVirtualDevice()
		taken[d.Key] = true
		if c, ok := device.(types.BaseVirtualSCSIController); ok {
			buses[d.Key] = c.GetVirtualSCSIController().BusNumber
		}
	}
	for _, change := range spec.DeviceChange {
		c := change.GetVirtualDeviceConfigSpec()
		scsi, ok := c.Device.(types.BaseVirtualSCSIController)
		if !ok || c.Operation != types.VirtualDeviceConfigSpecOperationAdd {
			continue
		}
		controller := scsi.GetVirtualSCSIController()
		temporary := controller.Key
		controller.Key = firstController + controller.BusNumber
		for taken[controller.Key] {
			controller.BusNumber++
			controller.Key++
		}
		taken[controller.Key] = true
		buses[controller.Key] = controller.BusNumber
		moveDisks(spec, temporary, controller.Key)
	}
	giveDiskKeys(spec, buses, taken)
}

// moveDisks follows a controller that got its own key.
func moveDisks(spec *types.VirtualMachineConfigSpec, from, to int32) {
	for _, change := range spec.DeviceChange {
		c := change.GetVirtualDeviceConfigSpec()
		if disk, ok := c.Device.(*types.VirtualDisk); ok && disk.ControllerKey == from &&
			c.Operation == types.VirtualDeviceConfigSpecOperationAdd {
			disk.ControllerKey = to
		}
	}
}

func giveDiskKeys(spec *types.VirtualMachineConfigSpec, buses map[int32]int32, taken map[int32]bool) {
	for _, change := range spec.DeviceChange {
		c := change.GetVirtualDeviceConfigSpec()
		disk, ok := c.Device.(*types.VirtualDisk)
		if !ok {
			continue
		}
		if c.Operation == types.VirtualDeviceConfigSpecOperationRemove {
			delete(taken, disk.Key)
			continue
		}
		bus, isSCSI := buses[disk.ControllerKey]
		if c.Operation != types.VirtualDeviceConfigSpecOperationAdd || !isSCSI {
			continue
		}
		if disk.UnitNumber == nil {
			disk.UnitNumber = freeUnit(bus, taken)
		}
		disk.Key = firstDisk + bus*busLength + *disk.UnitNumber
		taken[disk.Key] = true
	}
}

func freeUnit(bus int32, taken map[int32]bool) *int32 {
	for unit := int32(0); ; unit++ {
		if unit != controllerUnit && !taken[firstDisk+bus*busLength+unit] {
			return &unit
		}
	}
}

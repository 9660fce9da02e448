package main

import (
	"fmt"
	"path"
	"strings"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// vmxWriter collects the lines of a vmx.
type vmxWriter struct {
	strings.Builder
}

func (w *vmxWriter) set(key string, value any) {
	text := strings.NewReplacer("|", "|7C", "\n", "|0A", `"`, "|22").Replace(fmt.Sprint(value))
	fmt.Fprintf(w, "%s = \"%s\"\n", key, text)
}

// vmxOf writes the file from which a machine can be registered again.
func vmxOf(vm *simulator.VirtualMachine) string {
	w, c := new(vmxWriter), vm.Config
	w.set(".encoding", "UTF-8")
	w.set("config.version", 8)
	w.set("virtualHW.version", strings.TrimPrefix(c.Version, "vmx-"))
	w.set("displayName", c.Name)
	w.set("guestOS", vmxGuest(c.GuestId))
	w.set("firmware", c.Firmware)
	w.set("uuid.bios", spacedUUID(c.Uuid))
	w.set("uuid.location", spacedUUID(c.Uuid))
	w.set("vc.uuid", spacedUUID(c.InstanceUuid))
	w.set("nvram", nvramOf(vm))
	w.set("memSize", c.Hardware.MemoryMB)
	w.set("numvcpus", c.Hardware.NumCPU)
	if cores := c.Hardware.NumCoresPerSocket; cores != nil {
		w.set("cpuid.coresPerSocket", *cores)
	}
	if c.Annotation != "" {
		w.set("annotation", c.Annotation)
	}
	if isTrueOr(c.ChangeTrackingEnabled, false) {
		w.set("ctkEnabled", "TRUE")
	}
	w.devices(vm)
	for _, option := range c.ExtraConfig {
		o := option.GetOptionValue()
		if text, ok := o.Value.(string); ok && !isOwnKey(strings.ToLower(o.Key)) {
			w.set(o.Key, text)
		}
	}
	return w.String()
}

// nvramOf is what a vmx calls the file of the machine's firmware: what its options say, else the file
// that the machine has, else the one beside the vmx of its name.
func nvramOf(vm *simulator.VirtualMachine) string {
	for _, option := range vm.Config.ExtraConfig {
		o := option.GetOptionValue()
		if text, ok := o.Value.(string); ok && text != "" && strings.EqualFold(o.Key, "nvram") {
			return text
		}
	}
	for _, file := range filesOf(vm) {
		if file.Type == string(types.VirtualMachineFileLayoutExFileTypeNvram) {
			return vmxFileName(vm.Config.Files.VmPathName, file.Name)
		}
	}
	return strings.TrimSuffix(path.Base(vm.Config.Files.VmPathName), ".vmx") + ".nvram"
}

func filesOf(vm *simulator.VirtualMachine) []types.VirtualMachineFileLayoutExFileInfo {
	if vm.LayoutEx == nil {
		return nil
	}
	return vm.LayoutEx.File
}

// vmxGuest is the name of a guest in files: windows2019srv_64Guest is windows2019srv-64.
func vmxGuest(id string) string {
	name := strings.Replace(id, "Guest", "", 1)
	if short, is64 := strings.CutSuffix(name, "64"); is64 {
		name = strings.TrimSuffix(short, "_") + "-64"
	}
	return strings.ToLower(name)
}

func (w *vmxWriter) devices(vm *simulator.VirtualMachine) {
	devices := object.VirtualDeviceList(vm.Config.Hardware.Device)
	nic := 0
	for _, device := range devices {
		switch d := device.(type) {
		case types.BaseVirtualSCSIController:
			bus := fmt.Sprintf("scsi%d", d.GetVirtualSCSIController().BusNumber)
			w.set(bus+".present", "TRUE")
			w.set(bus+".virtualDev", scsiKind(device))
		case *types.VirtualAHCIController:
			w.set(fmt.Sprintf("sata%d.present", d.BusNumber), "TRUE")
		case *types.VirtualNVMEController:
			w.set(fmt.Sprintf("nvme%d.present", d.BusNumber), "TRUE")
		case *types.VirtualDisk:
			w.disk(vm, devices, d)
		case types.BaseVirtualEthernetCard:
			w.nic(fmt.Sprintf("ethernet%d", nic), device, d.GetVirtualEthernetCard())
			nic++
		}
	}
}

func scsiKind(device types.BaseVirtualDevice) string {
	switch device.(type) {
	case *types.ParaVirtualSCSIController:
		return "pvscsi"
	case *types.VirtualLsiLogicSASController:
		return "lsisas1068"
	case *types.VirtualBusLogicController:
		return "buslogic"
	}
	return "lsilogic"
}

// busOf names the bus a device sits on; empty when files have no name for it.
func busOf(controller types.BaseVirtualDevice) string {
	switch c := controller.(type) {
	case types.BaseVirtualSCSIController:
		return fmt.Sprintf("scsi%d", c.GetVirtualSCSIController().BusNumber)
	case *types.VirtualAHCIController:
		return fmt.Sprintf("sata%d", c.BusNumber)
	case *types.VirtualNVMEController:
		return fmt.Sprintf("nvme%d", c.BusNumber)
	case *types.VirtualIDEController:
		return fmt.Sprintf("ide%d", c.BusNumber)
	}
	return ""
}

func (w *vmxWriter) disk(vm *simulator.VirtualMachine, devices object.VirtualDeviceList, d *types.VirtualDisk) {
	backing, isFlat := d.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
	bus := busOf(devices.FindByKey(d.ControllerKey))
	if !isFlat || bus == "" || d.UnitNumber == nil {
		return
	}
	slot := fmt.Sprintf("%s:%d", bus, *d.UnitNumber)
	w.set(slot+".present", "TRUE")
	w.set(slot+".deviceType", strings.TrimRight(bus, "0123456789")+"-hardDisk")
	w.set(slot+".fileName", vmxFileName(vm.Config.Files.VmPathName, backing.FileName))
	if backing.DiskMode != "" && backing.DiskMode != string(types.VirtualDiskModePersistent) {
		w.set(slot+".mode", strings.ReplaceAll(backing.DiskMode, "_", "-"))
	}
	if isTrueOr(vm.Config.ChangeTrackingEnabled, false) {
		w.set(slot+".ctkEnabled", "TRUE")
	}
}

// vmxFileName names a file relative to the folder of the vmx, or by its full path elsewhere.
func vmxFileName(vmx, file string) string {
	if path.Dir(vmx) == path.Dir(file) {
		return path.Base(file)
	}
	var p object.DatastorePath
	p.FromString(file)
	return path.Join("/vmfs/volumes", p.Datastore, p.Path)
}

// addressNames are the names that files have for what the API calls the type of a MAC address.
type addressNames map[string]string

var addressTypes = addressNames{"manual": "static", "assigned": "vpx", "generated": "generated"}

func (n addressNames) inFiles(kind string) string {
	if name, ok := n[strings.ToLower(kind)]; ok {
		return name
	}
	return n["manual"]
}

func (n addressNames) inAPI(name string) string {
	for kind, one := range n {
		if strings.EqualFold(one, name) {
			return kind
		}
	}
	return "manual"
}

func (w *vmxWriter) nic(slot string, device types.BaseVirtualDevice, card *types.VirtualEthernetCard) {
	w.set(slot+".present", "TRUE")
	w.set(slot+".virtualDev", strings.ToLower(strings.TrimPrefix(fmt.Sprintf("%T", device), "*types.Virtual")))
	w.set(slot+".startConnected", "TRUE")
	w.set(slot+".addressType", addressTypes.inFiles(card.AddressType))
	w.set(slot+".address", card.MacAddress)
	switch b := card.Backing.(type) {
	case *types.VirtualEthernetCardNetworkBackingInfo:
		w.set(slot+".networkName", b.DeviceName)
	case *types.VirtualEthernetCardDistributedVirtualPortBackingInfo:
		w.set(slot+".dvs.switchId", b.Port.SwitchUuid)
		w.set(slot+".dvs.portgroupId", b.Port.PortgroupKey)
	}
}

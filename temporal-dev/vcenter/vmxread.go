package main

import (
	"bufio"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// vmxFile is what a vmx says, by key in lower case. Keys that are no hardware keep their spelling.
type vmxFile struct {
	name   string // datastore path
	values map[string]string
	others []types.BaseOptionValue
}

func readVMX(file, name string) (*vmxFile, error) {
	in, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	v := &vmxFile{name: name, values: map[string]string{}}
	for lines := bufio.NewScanner(in); lines.Scan(); {
		key, value, found := strings.Cut(lines.Text(), "=")
		key, value = strings.TrimSpace(key), strings.Trim(strings.TrimSpace(value), `"`)
		if !found || strings.HasPrefix(key, "#") {
			continue
		}
		value = strings.NewReplacer("|0A", "\n", "|22", `"`, "|7C", "|").Replace(value)
		v.values[strings.ToLower(key)] = value
		if !isOwnKey(strings.ToLower(key)) {
			v.others = append(v.others, &types.OptionValue{Key: key, Value: value})
		}
	}
	if v.values["config.version"] == "" {
		return nil, fmt.Errorf("%s is no vmx", name)
	}
	return v, nil
}

var ownKeys = map[string]bool{
	".encoding": true, "config.version": true, "virtualhw.version": true, "displayname": true, "guestos": true,
	"firmware": true, "uuid.bios": true, "uuid.location": true, "vc.uuid": true, "nvram": true, "memsize": true,
	"numvcpus": true, "cpuid.corespersocket": true, "annotation": true, "ctkenabled": true,
}

// isOwnKey tells whether a key, in lower case, stands for something else than an advanced option.
func isOwnKey(key string) bool {
	if ownKeys[key] {
		return true
	}
	if strings.HasSuffix(key, ".checkmacaddress") {
		return false
	}
	for _, bus := range []string{"scsi", "sata", "nvme", "ide", "ethernet"} {
		if rest, is := strings.CutPrefix(key, bus); is && rest != "" && rest[0] >= '0' && rest[0] <= '9' {
			return true
		}
	}
	return false
}

func (v *vmxFile) isTrue(key string) bool { return strings.EqualFold(v.values[key], "TRUE") }

func (v *vmxFile) number(key string, otherwise int64) int64 {
	n, err := strconv.ParseInt(v.values[key], 10, 64)
	if err != nil || n <= 0 {
		return otherwise
	}
	return n
}

func (v *vmxFile) uuid(key string) string { return joinedUUID(v.values[key]) }

// spec is the configuration a vmx describes, for a machine that has only its default devices.
func (v *vmxFile) spec() types.VirtualMachineConfigSpec {
	spec := types.VirtualMachineConfigSpec{
		GuestId: v.guest(), Annotation: v.values["annotation"], Firmware: v.values["firmware"],
		Uuid: v.uuid("uuid.bios"), InstanceUuid: v.uuid("vc.uuid"), MemoryMB: v.number("memsize", 4),
		NumCPUs:           int32(v.number("numvcpus", 1)),
		NumCoresPerSocket: types.NewInt32(int32(v.number("cpuid.corespersocket", 1))),
		ExtraConfig:       v.others, ChangeTrackingEnabled: types.NewBool(v.isTrue("ctkenabled")),
	}
	if version := v.values["virtualhw.version"]; version != "" {
		spec.Version = "vmx-" + version
	}
	for _, device := range append(v.storage(), v.nics()...) {
		spec.DeviceChange = append(spec.DeviceChange, &types.VirtualDeviceConfigSpec{
			Operation: types.VirtualDeviceConfigSpecOperationAdd, Device: device,
		})
	}
	return spec
}

// guest finds the name the API has for a guest.
func (v *vmxFile) guest() string {
	for _, id := range simulator.GuestID {
		if vmxGuest(string(id)) == strings.ToLower(v.values["guestos"]) {
			return string(id)
		}
	}
	return string(types.VirtualMachineGuestOsIdentifierOtherGuest64)
}

// busKind says how files name a kind of controller, and which keys its devices have.
type busKind struct {
	name                 string
	buses, units         int
	controllerKey, first int32
}

var busKinds = []busKind{
	{"scsi", 4, 64, 1000, 2000}, {"sata", 4, 30, 15000, 16000}, {"nvme", 4, 15, 31000, 32000}, {"ide", 2, 2, 200, 3000},
}

// storage lists controllers, each before its disks.
func (v *vmxFile) storage() []types.BaseVirtualDevice {
	var devices []types.BaseVirtualDevice
	for _, kind := range busKinds {
		for bus := range kind.buses {
			name := fmt.Sprintf("%s%d", kind.name, bus)
			controller := kind.controllerKey + int32(bus)
			if kind.name != "ide" {
				if !v.isTrue(name + ".present") {
					continue
				}
				devices = append(devices, v.controller(kind.name, name, controller, int32(bus)))
			}
			for unit := range kind.units {
				key := kind.first + int32(bus*kind.units+unit)
				if disk := v.disk(fmt.Sprintf("%s:%d", name, unit), controller, int32(unit), key); disk != nil {
					devices = append(devices, disk)
				}
			}
		}
	}
	return devices
}

func (v *vmxFile) controller(kind, name string, key, bus int32) types.BaseVirtualDevice {
	base := types.VirtualController{
		VirtualDevice: types.VirtualDevice{Key: key, ControllerKey: 100}, BusNumber: bus,
	}
	scsi := types.VirtualSCSIController{
		VirtualController: base, HotAddRemove: types.NewBool(true), ScsiCtlrUnitNumber: 7,
		SharedBus: types.VirtualSCSISharingNoSharing,
	}
	switch {
	case kind == "sata":
		return &types.VirtualAHCIController{VirtualSATAController: types.VirtualSATAController{VirtualController: base}}
	case kind == "nvme":
		return &types.VirtualNVMEController{VirtualController: base}
	case v.values[name+".virtualdev"] == "pvscsi":
		return &types.ParaVirtualSCSIController{VirtualSCSIController: scsi}
	case v.values[name+".virtualdev"] == "lsisas1068":
		return &types.VirtualLsiLogicSASController{VirtualSCSIController: scsi}
	case v.values[name+".virtualdev"] == "buslogic":
		return &types.VirtualBusLogicController{VirtualSCSIController: scsi}
	}
	return &types.VirtualLsiLogicController{VirtualSCSIController: scsi}
}

// disk returns the disk in a slot; nil when there is none, or a drive for discs.
func (v *vmxFile) disk(slot string, controller, unit, key int32) types.BaseVirtualDevice {
	file := v.values[slot+".filename"]
	if !v.isTrue(slot+".present") || !strings.HasSuffix(file, ".vmdk") {
		return nil
	}
	mode := strings.ReplaceAll(v.values[slot+".mode"], "-", "_")
	if mode == "" {
		mode = string(types.VirtualDiskModePersistent)
	}
	return &types.VirtualDisk{VirtualDevice: types.VirtualDevice{
		Key: key, ControllerKey: controller, UnitNumber: &unit,
		Backing: &types.VirtualDiskFlatVer2BackingInfo{
			VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: v.datastorePath(file)},
			DiskMode:                     mode, ThinProvisioned: types.NewBool(true),
		},
	}}
}

func (v *vmxFile) datastorePath(file string) string {
	if rest, isFull := strings.CutPrefix(file, "/vmfs/volumes/"); isFull {
		store, inside, _ := strings.Cut(rest, "/")
		return (&object.DatastorePath{Datastore: store, Path: inside}).String()
	}
	return path.Join(path.Dir(v.name), file)
}

func (v *vmxFile) nics() []types.BaseVirtualDevice {
	var nics []types.BaseVirtualDevice
	for i := range 10 {
		slot := fmt.Sprintf("ethernet%d", i)
		if !v.isTrue(slot + ".present") {
			continue
		}
		unit := int32(7 + i)
		card := types.VirtualEthernetCard{
			VirtualDevice: types.VirtualDevice{Key: 4000 + int32(i), ControllerKey: 100, UnitNumber: &unit, Backing: v.network(slot)},
			AddressType:   addressTypes.inAPI(v.values[slot+".addresstype"]), MacAddress: v.values[slot+".address"],
		}
		switch v.values[slot+".virtualdev"] {
		case "e1000":
			nics = append(nics, &types.VirtualE1000{VirtualEthernetCard: card})
		case "e1000e":
			nics = append(nics, &types.VirtualE1000e{VirtualEthernetCard: card})
		default:
			nics = append(nics, &types.VirtualVmxnet3{VirtualVmxnet: types.VirtualVmxnet{VirtualEthernetCard: card}})
		}
	}
	return nics
}

func (v *vmxFile) network(slot string) types.BaseVirtualDeviceBackingInfo {
	if group := v.values[slot+".dvs.portgroupid"]; group != "" {
		return &types.VirtualEthernetCardDistributedVirtualPortBackingInfo{
			Port: types.DistributedVirtualSwitchPortConnection{
				PortgroupKey: group, SwitchUuid: v.values[slot+".dvs.switchid"],
			},
		}
	}
	return &types.VirtualEthernetCardNetworkBackingInfo{
		VirtualDeviceDeviceBackingInfo: types.VirtualDeviceDeviceBackingInfo{DeviceName: v.values[slot+".networkname"]},
	}
}

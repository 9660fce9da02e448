package main

import (
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// The simulator takes for granted that the datastores and networks of a specification are there, and
// ends the process when they are not. These checks answer as a real vCenter does.

// placeFault tells why a machine cannot be created from a specification; nil when it can.
func (l *lab) placeFault(spec *types.VirtualMachineConfigSpec, pool ref, host *ref) fault {
	hosts := l.hostsOf(pool)
	if host != nil {
		hosts = []ref{*host}
	}
	if len(hosts) == 0 {
		return &types.InvalidArgument{InvalidProperty: "pool"}
	}
	files := filesOfDisks(spec)
	if name := filesOfSpec(spec); name != "" {
		files = append(files, name)
	}
	if host == nil && len(files) > 0 {
		// The simulator draws one of the hosts that have the datastore of the machine's folder.
		hosts = l.withStore(hosts, files[len(files)-1])
		if len(hosts) == 0 {
			return invalidStore(files[len(files)-1])
		}
	}
	for _, h := range hosts {
		if f := l.hostFault(h, files, spec); f != nil {
			return f
		}
	}
	return nil
}

// hostFault tells why a host cannot have a machine with these files and this hardware.
func (l *lab) hostFault(host ref, files []string, spec *types.VirtualMachineConfigSpec) fault {
	for _, file := range files {
		if len(l.withStore([]ref{host}, file)) == 0 {
			return invalidStore(file)
		}
	}
	return l.networkFault(host, spec)
}

func invalidStore(file string) fault {
	var p object.DatastorePath
	if !p.FromString(file) {
		return &types.InvalidDatastorePath{DatastorePath: file}
	}
	return &types.InvalidDatastore{Name: p.Datastore}
}

// filesOfDisks lists the disk files a specification names to be added.
func filesOfDisks(spec *types.VirtualMachineConfigSpec) []string {
	var files []string
	for _, change := range spec.DeviceChange {
		c := change.GetVirtualDeviceConfigSpec()
		disk, isDisk := c.Device.(*types.VirtualDisk)
		if !isDisk || c.Operation != types.VirtualDeviceConfigSpecOperationAdd {
			continue
		}
		if name := fileOfDisk(disk); name != "" {
			files = append(files, name)
		}
	}
	return files
}

// hostsOf lists the hosts behind a resource pool.
func (l *lab) hostsOf(pool ref) []ref {
	found, ok := l.registry.Get(pool).(*simulator.ResourcePool)
	if !ok {
		return nil
	}
	switch owner := l.registry.Get(found.Owner).(type) {
	case *simulator.ClusterComputeResource:
		return owner.Host
	case *mo.ComputeResource:
		return owner.Host
	}
	return nil
}

// withStore returns the hosts on which the datastore of a file is mounted.
func (l *lab) withStore(hosts []ref, file string) []ref {
	var p object.DatastorePath
	p.FromString(file)
	var found []ref
	for _, r := range hosts {
		host, ok := l.registry.Get(r).(*simulator.HostSystem)
		if ok && p.Datastore != "" && l.registry.FindByName(p.Datastore, host.Datastore) != nil {
			found = append(found, r)
		}
	}
	return found
}

// networkFault finds a card that is to be plugged into a network the host does not have.
func (l *lab) networkFault(r ref, spec *types.VirtualMachineConfigSpec) fault {
	host, ok := l.registry.Get(r).(*simulator.HostSystem)
	if !ok {
		return &types.InvalidArgument{InvalidProperty: "host"}
	}
	for i, change := range spec.DeviceChange {
		c := change.GetVirtualDeviceConfigSpec()
		backing, isNamed := c.Device.GetVirtualDevice().Backing.(*types.VirtualEthernetCardNetworkBackingInfo)
		if !isNamed || c.Operation == types.VirtualDeviceConfigSpecOperationRemove {
			continue
		}
		if l.registry.FindByName(backing.DeviceName, host.Network) == nil {
			return &types.InvalidDeviceBacking{InvalidDeviceSpec: types.InvalidDeviceSpec{
				InvalidVmConfig: types.InvalidVmConfig{Property: "virtualDeviceSpec.device.backing"}, DeviceIndex: int32(i),
			}}
		}
	}
	return nil
}

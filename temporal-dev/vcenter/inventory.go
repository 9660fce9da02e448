package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/simulator/esx"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/types"
)

// inventoryOptions say how much there is of everything at the first start.
type inventoryOptions struct {
	datacenters, clusters, clusterHosts, hosts int
	pools, datastores, machines, disks         int
	diskSize, memory                           int64
	poweredOn                                  bool
}

func (o *inventoryOptions) register(flags *flag.FlagSet) {
	flags.IntVar(&o.datacenters, "dc", 1, "datacenters")
	flags.IntVar(&o.clusters, "cluster", 1, "clusters per datacenter")
	flags.IntVar(&o.clusterHosts, "cluster-host", 2, "hosts per cluster")
	flags.IntVar(&o.hosts, "standalone-host", 1, "hosts without cluster per datacenter")
	flags.IntVar(&o.pools, "pool", 0, "child resource pools per cluster")
	flags.IntVar(&o.datastores, "ds", 1, "datastores per datacenter")
	flags.IntVar(&o.machines, "vm", 2, "machines per standalone host and per pool of a cluster")
	flags.IntVar(&o.disks, "disk", 1, "disks per machine")
	flags.Int64Var(&o.diskSize, "disk-size", 64<<20, "bytes of each disk, a multiple of 1024")
	flags.Int64Var(&o.memory, "memory", 512, "MiB of memory per machine")
	flags.BoolVar(&o.poweredOn, "powered-on", true, "power the machines on")
}

// createInfrastructure makes everything but datastores and machines, which need folders and disks of ours.
func createInfrastructure(o options) (*simulator.Model, error) {
	model := simulator.VPX()
	model.Datacenter = o.inventory.datacenters
	model.Cluster = o.inventory.clusters
	model.ClusterHost = o.inventory.clusterHosts
	model.Host = o.inventory.hosts
	model.Pool = o.inventory.pools
	model.Datastore, model.Machine = 0, 0
	about := &model.ServiceContent.About
	about.ApiVersion, about.Version = o.apiVersion, firstThree(o.apiVersion)
	about.Name, about.LicenseProductVersion = "VMware vCenter Server", about.Version[:1]+".0"
	about.FullName = fmt.Sprintf("%s %s build-%s", about.Name, about.Version, about.Build)
	return model, model.Create()
}

// firstThree turns the version of the API into that of the product: 8.0.3.0 is 8.0.3.
func firstThree(version string) string {
	dots := 0
	for i, c := range version {
		if c == '.' {
			if dots++; dots == 3 {
				return version[:i]
			}
		}
	}
	return version
}

// builder fills a new vCenter through its own API, in process.
type builder struct {
	lab    *lab
	client *vim25.Client
	find   *find.Finder
	o      inventoryOptions
}

func newBuilder(ctx context.Context, l *lab, o inventoryOptions) (*builder, error) {
	client, err := vim25.NewClient(ctx, l.service)
	if err != nil {
		return nil, err
	}
	return &builder{lab: l, client: client, find: find.NewFinder(client, false), o: o}, nil
}

// addDatastores mounts the datastores' folders on every host of their datacenter.
func (b *builder) addDatastores(ctx context.Context) error {
	centers, err := b.find.DatacenterList(ctx, "*")
	if err != nil {
		return err
	}
	for n, dc := range centers {
		b.find.SetDatacenter(dc)
		hosts, err := b.find.HostSystemList(ctx, "*/*")
		if err != nil {
			return err
		}
		for i := range b.o.datastores {
			if err := b.addDatastore(ctx, hosts, datastoreName(n, i)); err != nil {
				return err
			}
		}
	}
	return nil
}

// datastoreName is unique in the whole vCenter, so that a datastore path names one file.
func datastoreName(datacenter, index int) string {
	if datacenter == 0 {
		return fmt.Sprintf("LocalDS_%d", index)
	}
	return fmt.Sprintf("DC%d_LocalDS_%d", datacenter, index)
}

func (b *builder) addDatastore(ctx context.Context, hosts []*object.HostSystem, name string) error {
	folder := filepath.Join(b.lab.data, "datastores", name)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	for _, host := range hosts {
		system, err := host.ConfigManager().DatastoreSystem(ctx)
		if err != nil {
			return err
		}
		if _, err := system.CreateLocalDatastore(ctx, name, folder); err != nil {
			return err
		}
	}
	b.lab.addDatastore(name, folder)
	return nil
}

// place is where a machine of the first inventory goes.
type place struct {
	name      string
	pool      *object.ResourcePool
	host      *object.HostSystem
	folder    *object.Folder
	datastore string
}

// addMachines creates the machines of the first inventory, named as govmomi's own command names them.
func (b *builder) addMachines(ctx context.Context) error {
	places, err := b.places(ctx)
	if err != nil {
		return err
	}
	work, failed := make(chan place), make(chan error, len(places))
	var group sync.WaitGroup
	for range 16 {
		group.Add(1)
		go func() {
			defer group.Done()
			for p := range work {
				if err := b.addMachine(p); err != nil {
					failed <- fmt.Errorf("machine %s: %w", p.name, err)
				}
			}
		}()
	}
	for _, p := range places {
		work <- p
	}
	close(work)
	group.Wait()
	close(failed)
	return <-failed
}

func (b *builder) places(ctx context.Context) ([]place, error) {
	centers, err := b.find.DatacenterList(ctx, "*")
	if err != nil {
		return nil, err
	}
	var all []place
	for n, dc := range centers {
		found, err := b.placesOf(ctx, dc, n)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

func (b *builder) placesOf(ctx context.Context, dc *object.Datacenter, number int) ([]place, error) {
	folders, err := dc.Folders(ctx)
	if err != nil {
		return nil, err
	}
	b.find.SetDatacenter(dc)
	var all []place
	add := func(prefix string, pool *object.ResourcePool, host *object.HostSystem) {
		for i := range b.o.machines {
			all = append(all, place{
				name: fmt.Sprintf("%s_VM%d", prefix, i), pool: pool, host: host, folder: folders.VmFolder,
				datastore: datastoreName(number, i%max(b.o.datastores, 1)),
			})
		}
	}
	for i := range b.o.hosts {
		name := fmt.Sprintf("DC%d_H%d", number, i)
		host, err := b.find.HostSystem(ctx, name)
		if err != nil {
			return nil, err
		}
		pool, err := host.ResourcePool(ctx)
		if err != nil {
			return nil, err
		}
		add(name, pool, host)
	}
	for i := range b.o.clusters {
		for p := range max(b.o.pools, 1) {
			name := fmt.Sprintf("DC%d_C%d", number, i)
			path, prefix := name+"/Resources", fmt.Sprintf("%s_RP0", name)
			if b.o.pools > 0 {
				prefix = fmt.Sprintf("%s_RP%d", name, p+1)
				path += "/" + prefix
			}
			pool, err := b.find.ResourcePool(ctx, path)
			if err != nil {
				return nil, err
			}
			add(prefix, pool, nil)
		}
	}
	return all, nil
}

// newNIC returns a card of its own: the simulator's default shares what it points to.
func newNIC() types.BaseVirtualDevice {
	nic := esx.EthernetCard
	nic.Backing = &types.VirtualEthernetCardNetworkBackingInfo{
		VirtualDeviceDeviceBackingInfo: types.VirtualDeviceDeviceBackingInfo{DeviceName: "VM Network"},
	}
	nic.Connectable = &types.VirtualDeviceConnectInfo{StartConnected: true, AllowGuestControl: true, Status: "ok"}
	unit := *nic.UnitNumber
	nic.UnitNumber = &unit
	return &nic
}

func (b *builder) addMachine(p place) error {
	var devices object.VirtualDeviceList
	scsi, err := devices.CreateSCSIController("pvscsi")
	if err != nil {
		return err
	}
	devices = append(devices, scsi)
	for i := range b.o.disks {
		disk := devices.CreateDisk(scsi.(types.BaseVirtualController), types.ManagedObjectReference{}, "")
		disk.CapacityInBytes, disk.CapacityInKB = b.o.diskSize, b.o.diskSize/1024
		disk.Key = int32(-100 - i)
		backing := disk.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
		backing.FileName = fmt.Sprintf("[%s]", p.datastore)
		backing.ThinProvisioned = types.NewBool(true)
		unit := int32(i)
		disk.UnitNumber = &unit
		devices = append(devices, disk)
	}
	devices = append(devices, newNIC())
	changes, err := devices.ConfigSpec(types.VirtualDeviceConfigSpecOperationAdd)
	if err != nil {
		return err
	}
	spec := types.VirtualMachineConfigSpec{
		Name: p.name, GuestId: "otherGuest64", NumCPUs: 1, MemoryMB: b.o.memory, DeviceChange: changes,
		Files: &types.VirtualMachineFileInfo{VmPathName: fmt.Sprintf("[%s]", p.datastore)},
	}
	return b.create(p, spec)
}

// create goes straight to the simulator: thousands of machines would wait for its property collector
// longer than for their creation.
func (b *builder) create(p place, spec types.VirtualMachineConfigSpec) error {
	giveKeys(nil, &spec)
	ctx := b.lab.context()
	folder := b.lab.registry.Get(p.folder.Reference()).(*simulator.Folder)
	request := &types.CreateVM_Task{This: folder.Self, Config: spec, Pool: p.pool.Reference()}
	if p.host != nil {
		request.Host = types.NewReference(p.host.Reference())
	}
	result, f := b.lab.inner(ctx, folder.CreateVMTask(ctx, request))
	if f != nil {
		return fmt.Errorf("%T", f)
	}
	vm := b.lab.machine(result.(ref))
	ctx.WithLock(vm, func() {
		if b.o.poweredOn {
			b.lab.showRunning(ctx, vm)
		}
		b.lab.records.save(vm.Self)
	})
	return nil
}

// showRunning makes a new machine one that has been on for a while.
func (l *lab) showRunning(ctx *simulator.Context, vm *simulator.VirtualMachine) {
	for _, device := range vm.Config.Hardware.Device {
		if link := device.GetVirtualDevice().Connectable; link != nil {
			link.Connected = link.StartConnected
		}
	}
	ctx.Update(vm, []types.PropertyChange{
		{Name: "runtime.powerState", Val: types.VirtualMachinePowerStatePoweredOn},
		{Name: "summary.runtime.powerState", Val: types.VirtualMachinePowerStatePoweredOn},
		{Name: "summary.runtime.bootTime", Val: time.Now()},
	})
	l.startTools(ctx, vm)
}

package main

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// complete is the name of the file that says that the first inventory was created to its end.
const complete = "complete"

// isComplete tells whether an earlier run left machines. What an interrupted first start left is
// deleted.
func (r *recorder) isComplete() (bool, error) {
	_, err := os.Stat(filepath.Join(r.folder, complete))
	if err == nil || !os.IsNotExist(err) {
		return err == nil, err
	}
	for _, folder := range []string{r.folder, filepath.Join(r.lab.data, "datastores")} {
		if err := os.RemoveAll(folder); err != nil {
			return false, err
		}
	}
	return false, os.MkdirAll(r.folder, 0o700)
}

func (r *recorder) markComplete() error {
	r.flush()
	return os.WriteFile(filepath.Join(r.folder, complete), nil, 0o600)
}

// restore registers the machines that an earlier run left.
func (r *recorder) restore() error {
	files, err := filepath.Glob(filepath.Join(r.folder, "*.json"))
	if err != nil {
		return err
	}
	records, err := readRecords(files)
	if err != nil {
		return err
	}
	sort.Slice(records, func(i, j int) bool {
		return referenceNumber(records[i].Machine.Self) < referenceNumber(records[j].Machine.Self)
	})
	for _, record := range records {
		if err := r.place(record); err != nil {
			return fmt.Errorf("machine %s: %w", record.Machine.Name, err)
		}
	}
	r.lab.disks.adoptAll(records)
	r.mu.Lock()
	r.dirty = map[ref]bool{}
	r.mu.Unlock()
	return r.lab.registry.AlignCounter()
}

// referenceNumber is the 12 of vm-12.
func referenceNumber(r ref) int {
	_, digits, _ := strings.Cut(r.Value, "-")
	n, _ := strconv.Atoi(digits)
	return n
}

func readRecords(files []string) ([]*machineRecord, error) {
	records, failures := make([]*machineRecord, len(files)), make([]error, len(files))
	var group sync.WaitGroup
	gate := make(chan struct{}, 4)
	for i, file := range files {
		group.Add(1)
		gate <- struct{}{}
		go func() {
			defer group.Done()
			records[i], failures[i] = readRecord(file)
			<-gate
		}()
	}
	group.Wait()
	for _, err := range failures {
		if err != nil {
			return nil, err
		}
	}
	return records, nil
}

func readRecord(file string) (*machineRecord, error) {
	in, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	record := new(machineRecord)
	if err := types.NewJSONDecoder(in).Decode(record); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return record, nil
}

// place puts a machine back where it was: folder, host, pool and datastores. Where one of them is gone,
// the machine goes to the datacenter's folder, to some host or to its pool.
func (r *recorder) place(record *machineRecord) error {
	l, vm := r.lab, &simulator.VirtualMachine{VirtualMachine: record.Machine, DataSets: map[string]*simulator.DataSet{}}
	if err := r.house(vm); err != nil {
		return err
	}
	folder, ok := l.registry.Get(*vm.Parent).(*simulator.Folder)
	if !ok {
		return fmt.Errorf("there is no folder for it")
	}
	ctx := l.context()
	folder.ChildEntity = append(folder.ChildEntity, vm.Self)
	l.registry.PutEntity(folder, vm)
	host := l.registry.Get(*vm.Runtime.Host).(*simulator.HostSystem)
	l.registry.AppendReference(ctx, host, &host.Vm, vm.Self)
	if pool, ok := l.registry.Get(*vm.ResourcePool).(*simulator.ResourcePool); ok {
		l.registry.AppendReference(ctx, pool, &pool.Vm, vm.Self)
	}
	for _, s := range vm.Datastore {
		if store, ok := l.registry.Get(s).(*simulator.Datastore); ok {
			l.registry.AppendReference(ctx, store, &store.Vm, vm.Self)
		}
	}
	for i := range record.Snapshots {
		s := record.Snapshots[i]
		l.registry.Put(&simulator.VirtualMachineSnapshot{VirtualMachineSnapshot: s.Snapshot})
		if s.StateFile != "" {
			l.disks.states[s.Snapshot.Self] = s.StateFile
		}
	}
	if record.NoTools {
		l.accounts.noTools[vm.Self] = true
	}
	return l.tracks.load(vm.Self, r.file(vm.Self, ".tracks"))
}

// house replaces references to places that are no more.
func (r *recorder) house(vm *simulator.VirtualMachine) error {
	registry := r.lab.registry
	if registry.Get(*vm.Runtime.Host) == nil {
		some := registry.Any("HostSystem")
		if some == nil {
			return fmt.Errorf("there is no host for it")
		}
		host := some.Reference()
		vm.Runtime.Host, vm.Summary.Runtime.Host = &host, &host
	}
	host := registry.Get(*vm.Runtime.Host).(*simulator.HostSystem)
	if vm.ResourcePool == nil || registry.Get(*vm.ResourcePool) == nil {
		vm.ResourcePool = computeOf(registry, host).ResourcePool
	}
	vm.EnvironmentBrowser = *computeOf(registry, host).EnvironmentBrowser
	if vm.Parent == nil || registry.Get(*vm.Parent) == nil {
		center := registry.Any("Datacenter").(*simulator.Datacenter)
		vm.Parent = &center.VmFolder
	}
	var stores []ref
	for _, store := range vm.Datastore {
		if registry.Get(store) != nil {
			stores = append(stores, store)
		}
	}
	vm.Datastore = stores
	return nil
}

// computeOf returns the compute resource or cluster of a host.
func computeOf(registry *simulator.Registry, host *simulator.HostSystem) *mo.ComputeResource {
	switch parent := registry.Get(*host.Parent).(type) {
	case *simulator.ClusterComputeResource:
		return &parent.ComputeResource
	case *mo.ComputeResource:
		return parent
	}
	return &mo.ComputeResource{}
}

// adoptAll rebuilds the books of all disk files. Machines come to their own files first, so that a
// file that is attached elsewhere belongs to the one whose folder holds it.
func (g *diskGraph) adoptAll(records []*machineRecord) {
	g.mu.Lock()
	for _, record := range records {
		vm := record.Machine.Self
		for _, s := range record.Snapshots {
			for _, disk := range disksOf(s.Snapshot.Config.Hardware.Device) {
				if !disk.isIndependent() {
					g.load(disk.backing.FileName, vm).frozen[s.Snapshot.Self] = struct{}{}
				}
			}
		}
		home := path.Dir(record.Machine.Config.Files.VmPathName) + "/"
		for _, disk := range disksOf(record.Machine.Config.Hardware.Device) {
			if strings.HasPrefix(disk.backing.FileName, home) {
				g.load(disk.backing.FileName, vm)
			}
		}
	}
	g.mu.Unlock()
	for _, record := range records {
		if vm := g.lab.machine(record.Machine.Self); vm != nil {
			g.adopt(&vm.VirtualMachine)
			g.findRedos(&vm.VirtualMachine)
		}
	}
}

// findRedos finds the redo logs of nonpersistent disks again.
func (g *diskGraph) findRedos(vm *mo.VirtualMachine) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, disk := range disksOf(vm.Config.Hardware.Device) {
		redo := g.redoName(vm.Self, disk.backing.FileName)
		if _, err := os.Stat(redo); err == nil {
			g.redos[redoKey(vm.Self, disk.backing.FileName)] = redo
		}
	}
}

package main

import (
	"fmt"
	"log"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"
	"sync"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// diskFile is one descriptor with its extent. As on ESXi, a snapshot freezes the file a machine ran
// on and gives it a child; unlike on ESXi the extent of a child holds the whole disk, as plain bytes.
type diskFile struct {
	name   string                        // datastore path of the descriptor
	parent string                        // datastore path of the file below it in the chain; empty: none
	owner  ref                           // the machine that had it first
	frozen map[ref]struct{}              // snapshots it belongs to
	users  map[ref]types.VirtualDiskMode // machines that have it as a disk now
	locked bool                          // by the control endpoint
}

// diskGraph knows every disk file of the registered machines.
type diskGraph struct {
	lab    *lab
	mu     sync.Mutex
	files  map[string]*diskFile
	redos  map[string]string   // extent of the redo log, by machine and disk file
	uses   map[ref][]*diskFile // files that a machine has as disks now
	states map[ref]string      // state file of each snapshot
}

func newDiskGraph(l *lab) *diskGraph {
	return &diskGraph{lab: l, files: map[string]*diskFile{}, redos: map[string]string{}, uses: map[ref][]*diskFile{}, states: map[ref]string{}}
}

// resolve turns a datastore path into one of this computer; empty when there is no such datastore.
func (l *lab) resolve(name string) string {
	var p object.DatastorePath
	if !p.FromString(name) {
		return ""
	}
	folder := l.storeFolder(p.Datastore)
	if folder == "" || strings.Contains(p.Path, "..") {
		return ""
	}
	return filepath.Join(folder, p.Path)
}

// storeFolder returns the folder of a datastore: one of ours, or one that a client has mounted, whose
// local path is a folder of this computer.
func (l *lab) storeFolder(name string) string {
	l.storesMu.RLock()
	folder, ok := l.stores[name]
	l.storesMu.RUnlock()
	if ok {
		return folder
	}
	for _, entity := range l.registry.All("Datastore") {
		if store, ok := entity.(*simulator.Datastore); ok && store.Name == name && filepath.IsAbs(store.Summary.Url) {
			return store.Summary.Url
		}
	}
	return ""
}

// extentName is the file beside a descriptor that holds the bytes. A child is named as on VMFS-6,
// so that nobody takes it for a flat extent.
func extentName(descriptor string, isChild bool) string {
	kind := "-flat.vmdk"
	if isChild {
		kind = "-sesparse.vmdk"
	}
	return strings.TrimSuffix(descriptor, ".vmdk") + kind
}

// extent returns the path of the bytes of a disk file.
func (g *diskGraph) extent(f *diskFile) string {
	return g.lab.resolve(extentName(f.name, f.parent != ""))
}

// vmDisk is a disk of a machine together with its backing.
type vmDisk struct {
	*types.VirtualDisk
	backing *types.VirtualDiskFlatVer2BackingInfo
}

// isIndependent tells whether snapshots leave the disk out.
func (d vmDisk) isIndependent() bool {
	return strings.HasPrefix(d.backing.DiskMode, "independent")
}

// disksOf lists the disks whose bytes stand in files.
func disksOf(devices []types.BaseVirtualDevice) []vmDisk {
	var disks []vmDisk
	for _, device := range devices {
		if disk, ok := device.(*types.VirtualDisk); ok {
			if backing, ok := disk.Backing.(*types.VirtualDiskFlatVer2BackingInfo); ok {
				disks = append(disks, vmDisk{disk, backing})
			}
		}
	}
	return disks
}

// devicesChanged brings files and books in step with the disks a machine has now: a new disk gets
// its bytes, an extended one grows and loses its change tracking, a removed one loses its user.
func (g *diskGraph) devicesChanged(vm *mo.VirtualMachine) {
	for _, key := range g.adopt(vm) {
		g.lab.tracks.reset(vm.Self, key)
	}
}

// adopt does the work of devicesChanged and returns the keys of disks that grew.
func (g *diskGraph) adopt(vm *mo.VirtualMachine) []int32 {
	g.mu.Lock()
	defer g.mu.Unlock()
	var extended []int32
	g.dropUses(vm.Self)
	for _, disk := range disksOf(vm.Config.Hardware.Device) {
		f := g.load(disk.backing.FileName, vm.Self)
		if !strings.HasSuffix(disk.backing.DiskMode, "nonpersistent") { // that is how disks are borrowed
			g.inherit(f, vm.Self)
		}
		f.users[vm.Self] = types.VirtualDiskMode(disk.backing.DiskMode)
		g.uses[vm.Self] = append(g.uses[vm.Self], f)
		grown, err := g.grow(f, disk)
		if err != nil {
			log.Printf("disk %s: %s", f.name, err)
		}
		if grown {
			extended = append(extended, disk.Key)
		}
	}
	g.dropRedos(vm.Self)
	g.relink(vm.Config.Hardware.Device)
	return extended
}

// inherit makes a machine the owner of a chain whose owner has it no more.
func (g *diskGraph) inherit(f *diskFile, vm ref) {
	if _, isUsed := f.users[f.owner]; isUsed {
		return
	}
	for ; f != nil; f = g.files[f.parent] {
		f.owner = vm
	}
}

// dropUses makes a machine a user of no file.
func (g *diskGraph) dropUses(vm ref) {
	for _, f := range g.uses[vm] {
		delete(f.users, vm)
	}
	delete(g.uses, vm)
}

// load returns what is known of a disk file, and reads the chain below it from the descriptors.
func (g *diskGraph) load(name string, owner ref) *diskFile {
	if f := g.files[name]; f != nil {
		return f
	}
	f := &diskFile{name: name, owner: owner, frozen: map[ref]struct{}{}, users: map[ref]types.VirtualDiskMode{}}
	g.files[name] = f
	if hint := parentHint(g.lab.resolve(name)); hint != "" {
		f.parent = sibling(name, hint)
		g.load(f.parent, owner)
	}
	return f
}

// sibling returns the datastore path of a file named in a descriptor.
func sibling(name, hint string) string {
	if strings.HasPrefix(hint, "[") {
		return hint
	}
	return path.Join(path.Dir(name), hint)
}

// grow gives the extent its capacity; true when there were fewer bytes before.
func (g *diskGraph) grow(f *diskFile, disk vmDisk) (bool, error) {
	capacity := disk.CapacityInBytes
	info, err := os.Stat(g.extent(f))
	if err != nil {
		return false, err
	}
	if capacity == 0 { // attached by name alone, as hot-add does
		disk.CapacityInBytes, disk.CapacityInKB = info.Size(), info.Size()/1024
		return false, nil
	}
	if info.Size() >= capacity {
		return false, nil
	}
	if err := os.Truncate(g.extent(f), capacity); err != nil {
		return false, err
	}
	return info.Size() > 0, g.writeDescriptor(f, capacity, disk.backing.Uuid)
}

// relink rebuilds the parent chain in the backings of devices.
func (g *diskGraph) relink(devices []types.BaseVirtualDevice) {
	for _, disk := range disksOf(devices) {
		g.relinkBacking(disk.backing)
	}
}

func (g *diskGraph) relinkBacking(backing *types.VirtualDiskFlatVer2BackingInfo) {
	backing.Parent, backing.DeltaDiskFormat = nil, ""
	f := g.files[backing.FileName]
	if f == nil || f.parent == "" {
		return
	}
	parent := *backing
	parent.FileName, parent.ChangeId = f.parent, ""
	g.relinkBacking(&parent)
	backing.Parent, backing.DeltaDiskFormat = &parent, "seSparseFormat"
}

// children lists the files whose parent is the named one.
func (g *diskGraph) children(name string) []*diskFile {
	var found []*diskFile
	for _, f := range g.files {
		if f.parent == name {
			found = append(found, f)
		}
	}
	sort.Slice(found, func(i, j int) bool { return found[i].name < found[j].name })
	return found
}

// forget drops a machine that is gone, and the files that nobody else uses.
func (g *diskGraph) forget(vm ref) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.dropUses(vm)
	for name, f := range g.files {
		if f.owner == vm && len(f.users) == 0 {
			delete(g.files, name)
		}
	}
	g.dropRedos(vm)
}

// nextChild returns a free name for a child of the file: disk.vmdk and disk-000004.vmdk go on to
// the first disk-00000N.vmdk that does not exist.
func (g *diskGraph) nextChild(f *diskFile) string {
	base := strings.TrimSuffix(f.name, ".vmdk")
	if i := len(base) - 7; i > 0 && base[i] == '-' && strings.Trim(base[i+1:], "0123456789") == "" {
		base = base[:i]
	}
	for n := 1; ; n++ {
		name := fmt.Sprintf("%s-%06d.vmdk", base, n)
		if _, err := os.Stat(g.lab.resolve(name)); os.IsNotExist(err) && g.files[name] == nil {
			return name
		}
	}
}

// remove deletes a disk file with its extent.
func (g *diskGraph) remove(f *diskFile) error {
	delete(g.files, f.name)
	if err := os.Remove(g.extent(f)); err != nil && !os.IsNotExist(err) {
		return err
	}
	if err := os.Remove(g.lab.resolve(f.name)); err != nil && !os.IsNotExist(err) {
		return err
	}
	return nil
}

package main

import (
	"net/http"
	"os"
	"sort"
)

// diskEntry tells a test where the bytes of a disk are.
type diskEntry struct {
	Machine   string   `json:"machine"`
	Reference string   `json:"reference"`
	Key       int32    `json:"key"`
	File      string   `json:"file"` // datastore path
	Path      string   `json:"path"` // the running bytes, on this computer
	Capacity  int64    `json:"capacity"`
	Mode      string   `json:"mode"`
	Frozen    []frozen `json:"frozen"`
}

// frozen is the disk in one snapshot.
type frozen struct {
	Snapshot string `json:"snapshot"`
	File     string `json:"file"`
	Path     string `json:"path"`
}

func (l *lab) showDisks(out http.ResponseWriter, r *http.Request) {
	wanted, entries := r.URL.Query().Get("machine"), []diskEntry{}
	for _, entity := range l.registry.All("VirtualMachine") {
		if vm := l.machine(entity.Reference()); vm != nil && l.isNamed(vm.Self, wanted) {
			ctx := l.context()
			ctx.WithLock(vm, func() { entries = append(entries, l.entriesOf(vm.Self)...) })
		}
	}
	sort.Slice(entries, func(i, j int) bool {
		a, b := entries[i], entries[j]
		return a.Machine < b.Machine || (a.Machine == b.Machine && a.Key < b.Key)
	})
	reply(out, entries)
}

func (l *lab) entriesOf(r ref) []diskEntry {
	vm := l.machine(r)
	l.disks.mu.Lock()
	defer l.disks.mu.Unlock()
	var entries []diskEntry
	for _, disk := range disksOf(vm.Config.Hardware.Device) {
		entry := diskEntry{
			Machine: vm.Name, Reference: r.Value, Key: disk.Key, File: disk.backing.FileName,
			Capacity: disk.CapacityInBytes, Mode: disk.backing.DiskMode, Frozen: []frozen{},
			Path: l.disks.pathFor(r, disk.backing.FileName),
		}
		for _, s := range l.snapshotsOf(vm) {
			entry.Frozen = append(entry.Frozen, l.frozenIn(s, disk.Key)...)
		}
		entries = append(entries, entry)
	}
	return entries
}

// frozenIn finds a disk in a snapshot; it may be missing there.
func (l *lab) frozenIn(r ref, key int32) []frozen {
	s := l.snapshot(r)
	if s == nil {
		return nil
	}
	for _, disk := range disksOf(s.Config.Hardware.Device) {
		if disk.Key == key {
			name := disk.backing.FileName
			return []frozen{{Snapshot: r.Value, File: name, Path: l.disks.pathFor(ref{}, name)}}
		}
	}
	return nil
}

// pathFor returns the bytes a machine reads and writes: those of its redo log if it has one.
func (g *diskGraph) pathFor(vm ref, name string) string {
	if redo, ok := g.redos[redoKey(vm, name)]; ok {
		return redo
	}
	if f := g.files[name]; f != nil {
		return g.extent(f)
	}
	flat := g.lab.resolve(extentName(name, false))
	if _, err := os.Stat(flat); err != nil {
		return ""
	}
	return flat
}

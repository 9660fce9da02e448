package main

import (
	"net/http"
	"os"
	"time"

	"github.com/vmware/govmomi/vim25/types"
)

// servedDisk is what somebody wants to read, or without a snapshot to write.
type servedDisk struct {
	VM       string `json:"vm"`
	Snapshot string `json:"snapshot,omitempty"`
	File     string `json:"file"`
	IsReader bool   `json:"read_only,omitempty"`
}

// servedExtent is where its bytes are on this computer.
type servedExtent struct {
	Path     string `json:"path"`
	Size     int64  `json:"size"`
	ReadOnly bool   `json:"read_only"`
}

// serveDisk takes the place of the data port of a host: it tells the lab's NBD plugin where the bytes
// of a disk are, after it checked what a host checks. Faults can be injected under the name disk:OPEN.
func (w *web) serveDisk(out http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		refuse(out, http.StatusMethodNotAllowed, "POST a disk")
		return
	}
	user, password, _ := r.BasicAuth()
	if !w.lab.accounts.isValid(&types.Login{UserName: user, Password: password}) {
		refuse(out, http.StatusUnauthorized, "InvalidLogin")
		return
	}
	var wanted servedDisk
	if !read(out, r, &wanted) {
		return
	}
	c := call{method: "disk:OPEN", entity: ref{Type: "VirtualMachine", Value: wanted.VM}}
	w.count(c.method)
	if rule := w.book.match(w.lab, c); rule != nil && !w.applyOpen(rule, out, r) {
		return
	}
	extent, status, why := w.lab.openServed(wanted)
	if extent == nil {
		refuse(out, status, why)
		return
	}
	reply(out, extent)
}

// applyOpen acts on an attempt to open a disk; true: it may go on.
func (w *web) applyOpen(rule *faultRule, out http.ResponseWriter, r *http.Request) bool {
	if rule.Action == "delay" {
		wait(r.Context(), time.Duration(rule.DelayMS)*time.Millisecond)
		return true
	}
	if rule.Action == "fail" {
		refuse(out, http.StatusInternalServerError, rule.Fault)
		return false
	}
	hangUp(out)
	return false
}

// openServed finds the bytes of a disk, or tells with a status why they are not to be had. A snapshot
// is for reading; what the machine itself uses now is free only while it is off.
func (l *lab) openServed(wanted servedDisk) (*servedExtent, int, string) {
	vm := l.machine(ref{Type: "VirtualMachine", Value: wanted.VM})
	if vm == nil {
		return nil, http.StatusNotFound, "ManagedObjectNotFound: " + wanted.VM
	}
	devices, isReader := vm.Config.Hardware.Device, wanted.IsReader
	if wanted.Snapshot != "" {
		s := l.snapshot(ref{Type: "VirtualMachineSnapshot", Value: wanted.Snapshot})
		if s == nil || s.Vm != vm.Self {
			return nil, http.StatusNotFound, "ManagedObjectNotFound: " + wanted.Snapshot
		}
		devices, isReader = s.Config.Hardware.Device, true
	}
	if !l.disks.isInChain(devices, wanted.File) {
		return nil, http.StatusNotFound, "FileNotFound: " + wanted.File
	}
	isOn := vm.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOff
	mode := types.VirtualDiskModePersistent
	if isReader {
		mode = types.VirtualDiskModeIndependent_nonpersistent
	}
	isHeld := isOn && l.disks.isUsedBy(vm.Self, wanted.File)
	if isHeld || l.disks.openFault(vm.Self, wanted.File, string(mode)) != nil {
		return nil, http.StatusConflict, "FileLocked: " + wanted.File
	}
	return l.disks.served(wanted.File, isReader)
}

// isInChain tells whether a file belongs to one of the disks, or stands below one in its chain.
func (g *diskGraph) isInChain(devices []types.BaseVirtualDevice, name string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, disk := range disksOf(devices) {
		for f := g.files[disk.backing.FileName]; f != nil; f = g.files[f.parent] {
			if f.name == name {
				return true
			}
		}
	}
	return false
}

// isUsedBy tells whether a machine has the file itself as a disk, not a child of it.
func (g *diskGraph) isUsedBy(vm ref, name string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	f := g.files[name]
	if f == nil {
		return false
	}
	_, isUser := f.users[vm]
	return isUser && len(g.children(name)) == 0
}

func (g *diskGraph) served(name string, isReader bool) (*servedExtent, int, string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f := g.files[name]
	if f == nil { // folded away meanwhile
		return nil, http.StatusNotFound, "FileNotFound: " + name
	}
	path := g.extent(f)
	info, err := os.Stat(path)
	if err != nil {
		return nil, http.StatusInternalServerError, err.Error()
	}
	return &servedExtent{Path: path, Size: info.Size(), ReadOnly: isReader}, 0, ""
}

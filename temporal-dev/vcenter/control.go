package main

import (
	"encoding/json"
	"net/http"
	"sort"
	"strconv"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// controlRoutes are the calls of the control endpoint; README.md shows each.
func (l *lab) controlRoutes() http.Handler {
	routes := http.NewServeMux()
	routes.HandleFunc("GET /healthz", func(out http.ResponseWriter, _ *http.Request) {
		reply(out, l.address)
	})
	routes.HandleFunc("GET /calls", l.showCalls)
	routes.HandleFunc("DELETE /calls", l.clearCalls)
	routes.HandleFunc("GET /disks", l.showDisks)
	routes.HandleFunc("GET /guests", l.showGuests)
	routes.HandleFunc("GET /faults", func(out http.ResponseWriter, _ *http.Request) { reply(out, l.web.book.list()) })
	routes.HandleFunc("POST /faults", l.addFault)
	routes.HandleFunc("DELETE /faults", l.removeFaults)
	routes.HandleFunc("DELETE /faults/{id}", l.removeFaults)
	routes.HandleFunc("POST /power-loss", l.postPowerLoss)
	routes.HandleFunc("POST /locks", l.postLock)
	routes.HandleFunc("DELETE /locks", l.deleteLock)
	routes.HandleFunc("POST /tracking-lies", l.postLie)
	routes.HandleFunc("POST /tools", l.postTools)
	routes.HandleFunc("POST /inaccessible", l.postInaccessible)
	routes.HandleFunc("DELETE /inaccessible", l.deleteInaccessible)
	routes.HandleFunc("POST /sessions/expire", func(out http.ResponseWriter, _ *http.Request) {
		reply(out, map[string]int{"ended": l.endSessions()})
	})
	routes.HandleFunc("GET /leases", func(out http.ResponseWriter, _ *http.Request) { reply(out, l.describeLeases()) })
	routes.HandleFunc("DELETE /leases", func(out http.ResponseWriter, _ *http.Request) {
		reply(out, map[string]int{"ended": l.endLeases()})
	})
	routes.HandleFunc("POST /restart", l.postRestart)
	routes.HandleFunc("POST /users", l.postUser)
	routes.HandleFunc("POST /latency", l.postLatency)
	routes.HandleFunc("DELETE /latency", l.deleteLatency)
	return routes
}

func (l *lab) describeLeases() []map[string]any {
	found := []map[string]any{}
	for _, one := range l.openLeases() {
		found = append(found, map[string]any{
			"lease": one.Self.Value, "machine": one.holds.Value, "state": one.State, "progress": one.TransferProgress,
		})
	}
	return found
}

func reply(out http.ResponseWriter, value any) {
	out.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(out).Encode(value)
}

func refuse(out http.ResponseWriter, status int, why string) {
	out.Header().Set("Content-Type", "application/json")
	out.WriteHeader(status)
	_ = json.NewEncoder(out).Encode(map[string]string{"error": why})
}

// read decodes a request; false when it was not understood, which is answered.
func read(out http.ResponseWriter, r *http.Request, into any) bool {
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		refuse(out, http.StatusBadRequest, err.Error())
		return false
	}
	return true
}

func (l *lab) showCalls(out http.ResponseWriter, _ *http.Request) {
	l.web.mu.Lock()
	defer l.web.mu.Unlock()
	reply(out, l.web.calls)
}

func (l *lab) clearCalls(out http.ResponseWriter, _ *http.Request) {
	l.web.mu.Lock()
	defer l.web.mu.Unlock()
	l.web.calls = map[string]int{}
	reply(out, l.web.calls)
}

func (l *lab) addFault(out http.ResponseWriter, r *http.Request) {
	var rule faultRule
	if !read(out, r, &rule) {
		return
	}
	added, err := l.web.book.add(rule)
	if err != nil {
		refuse(out, http.StatusBadRequest, err.Error())
		return
	}
	reply(out, added)
}

func (l *lab) removeFaults(out http.ResponseWriter, r *http.Request) {
	id, _ := strconv.Atoi(r.PathValue("id"))
	if !l.web.book.remove(id) {
		refuse(out, http.StatusNotFound, "no such rule")
		return
	}
	reply(out, l.web.book.list())
}

// about names a machine, and perhaps one of its disks.
type about struct {
	Machine string `json:"machine"`
	Key     int32  `json:"key,omitempty"`
}

// named finds a machine by name or reference; nil when there is none, which is answered.
func (l *lab) named(out http.ResponseWriter, name string) *simulator.VirtualMachine {
	for _, entity := range l.registry.All("VirtualMachine") {
		if vm, ok := entity.(*simulator.VirtualMachine); ok && name != "" && (vm.Name == name || vm.Self.Value == name) {
			return vm
		}
	}
	refuse(out, http.StatusNotFound, "no such machine: "+name)
	return nil
}

// postPowerLoss turns a machine off as a failing host does: change tracking starts anew.
func (l *lab) postPowerLoss(out http.ResponseWriter, r *http.Request) {
	var a about
	if !read(out, r, &a) {
		return
	}
	vm := l.named(out, a.Machine)
	if vm == nil {
		return
	}
	ctx := l.context()
	ctx.WithLock(vm, func() {
		ctx.Update(vm, []types.PropertyChange{
			{Name: "runtime.powerState", Val: types.VirtualMachinePowerStatePoweredOff},
			{Name: "summary.runtime.powerState", Val: types.VirtualMachinePowerStatePoweredOff},
		})
	})
	l.tracks.forget(vm.Self)
	reply(out, a)
}

// lock names disk files by a machine, a disk of it, or a datastore path.
type lock struct {
	about
	File string `json:"file,omitempty"`
}

func (l *lab) postLock(out http.ResponseWriter, r *http.Request)   { l.setLock(out, r, true) }
func (l *lab) deleteLock(out http.ResponseWriter, r *http.Request) { l.setLock(out, r, false) }

// setLock makes somebody unknown hold files open, or let go of them.
func (l *lab) setLock(out http.ResponseWriter, r *http.Request, isLocked bool) {
	var wanted lock
	if !read(out, r, &wanted) {
		return
	}
	names := map[string]bool{wanted.File: true}
	if wanted.Machine != "" {
		vm := l.named(out, wanted.Machine)
		if vm == nil {
			return
		}
		names = l.chainNames(vm, wanted.Key)
	}
	l.disks.mu.Lock()
	defer l.disks.mu.Unlock()
	changed := []string{}
	for name, f := range l.disks.files {
		if names[name] {
			f.locked = isLocked
			changed = append(changed, name)
		}
	}
	sort.Strings(changed)
	reply(out, changed)
}

// chainNames lists the files of a machine's disks, of one disk if a key is given.
func (l *lab) chainNames(vm *simulator.VirtualMachine, key int32) map[string]bool {
	names := map[string]bool{}
	for _, disk := range disksOf(vm.Config.Hardware.Device) {
		if key != 0 && disk.Key != key {
			continue
		}
		for backing := disk.backing; backing != nil; backing = backing.Parent {
			names[backing.FileName] = true
		}
	}
	return names
}

// postLie hides stretches of a disk from change tracking, allocated or changed. An empty list ends it.
func (l *lab) postLie(out http.ResponseWriter, r *http.Request) {
	var lie struct {
		about
		Areas []span `json:"areas"`
	}
	if !read(out, r, &lie) {
		return
	}
	vm := l.named(out, lie.Machine)
	if vm == nil {
		return
	}
	l.tracks.mu.Lock()
	defer l.tracks.mu.Unlock()
	track := l.tracks.tracks[vm.Self][lie.Key]
	if track == nil {
		refuse(out, http.StatusConflict, "the disk is not tracked")
		return
	}
	track.lies = lie.Areas
	reply(out, lie)
}

// postTools says whether the guest has running tools, from now on and after its next start.
func (l *lab) postTools(out http.ResponseWriter, r *http.Request) {
	var wanted struct {
		about
		Running bool `json:"running"`
	}
	if !read(out, r, &wanted) {
		return
	}
	vm := l.named(out, wanted.Machine)
	if vm == nil {
		return
	}
	l.accounts.mu.Lock()
	l.accounts.noTools[vm.Self] = !wanted.Running
	l.accounts.mu.Unlock()
	ctx := l.context()
	ctx.WithLock(vm, func() {
		if wanted.Running {
			l.startTools(ctx, vm)
			return
		}
		ctx.Update(vm, []types.PropertyChange{
			{Name: "guest.toolsStatus", Val: types.VirtualMachineToolsStatusToolsNotRunning},
			{Name: "guest.toolsRunningStatus", Val: string(types.VirtualMachineToolsRunningStatusGuestToolsNotRunning)},
		})
	})
	reply(out, wanted)
}

// postRestart does what clients see of a restart of vCenter: sessions, tasks and connections are
// gone, the machines went on.
func (l *lab) postRestart(out http.ResponseWriter, _ *http.Request) {
	l.endSessions()
	for _, task := range l.registry.AllReference("Task") {
		l.registry.Remove(l.context(), task.Reference())
	}
	l.web.dropAll()
	reply(out, struct{}{})
}

// postUser adds an account, or changes its password. What it may do is set through the API:
// AddAuthorizationRole and SetEntityPermissions.
func (l *lab) postUser(out http.ResponseWriter, r *http.Request) {
	var user struct {
		Name     string `json:"name"`
		Password string `json:"password"`
	}
	if !read(out, r, &user) {
		return
	}
	l.accounts.mu.Lock()
	l.accounts.users[plainName(user.Name)] = user.Password
	l.accounts.mu.Unlock()
	l.saveAccounts()
	reply(out, map[string]string{"name": user.Name})
}

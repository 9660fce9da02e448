package main

import (
	"context"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/google/uuid"
	"github.com/vmware/govmomi/simulator"
	_ "github.com/vmware/govmomi/vapi/simulator" // tags, categories and sessions over REST
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

type ref = types.ManagedObjectReference

// lab is one vCenter: the simulator and what the simulator lacks.
type lab struct {
	data     string
	model    *simulator.Model
	service  *simulator.Service
	registry *simulator.Registry
	address  address
	failed   chan error
	web      *web
	control  *http.Server
	server   *simulator.Server

	stores   map[string]string // folder of each datastore, by its name
	storesMu sync.RWMutex
	wrapped  map[ref][]*simulator.Registry // session registries that hold a wrapper of the object
	wrapMu   sync.Mutex

	leases   []*lease // those that have not ended
	leasesMu sync.Mutex

	disks    *diskGraph
	tracks   *tracker
	records  *recorder
	guests   *guests
	accounts *accounts
	away     away
	places   *places

	tagsMu    sync.Mutex // held while tags are written
	nextField int32      // key of the next custom attribute

	latencies *latencies

	taskNumber atomic.Int64
	holders    sync.Map // of locks, by the goroutine of the call
}

// newLab creates the inventory; nothing listens yet.
func newLab(ctx context.Context, o options) (*lab, error) {
	if err := os.MkdirAll(o.data, 0o700); err != nil {
		return nil, err
	}
	// The simulator keeps a scratch folder of its own; it belongs into ours.
	if err := os.Setenv("TMPDIR", o.data); err != nil {
		return nil, err
	}
	model, err := createInfrastructure(o)
	if err != nil {
		return nil, err
	}
	l := &lab{
		data: o.data, model: model, service: model.Service, registry: model.Map(), failed: make(chan error, 2),
		stores: map[string]string{}, wrapped: map[ref][]*simulator.Registry{}, accounts: newAccounts(o),
		away: away{machines: map[string]bool{}},
	}
	l.disks, l.tracks = newDiskGraph(l), newTracker()
	l.records, l.guests, l.places = newRecorder(l), newGuests(l, o), newPlaces(l)
	l.web, l.latencies = newWeb(l, o), newLatencies()
	if err := l.identify(); err != nil {
		return nil, err
	}
	l.guests.register()
	for _, kind := range []string{"Folder", "ResourcePool"} {
		for _, object := range l.registry.All(kind) {
			l.places.note(object)
		}
	}
	for _, object := range l.registry.All("DistributedVirtualPortgroup") {
		completeUplinks(object.(*simulator.DistributedVirtualPortgroup))
	}
	l.registry.AddHandler(&watcher{lab: l})
	b, err := newBuilder(ctx, l, o.inventory)
	if err != nil {
		return nil, err
	}
	if err := l.fill(ctx, b); err != nil {
		return nil, err
	}
	if err := l.loadAccounts(); err != nil {
		return nil, err
	}
	l.registry.Handler = l.dispatch
	go l.records.run(ctx.Done())
	return l, nil
}

// fill makes datastores, and machines unless an earlier run left some.
func (l *lab) fill(ctx context.Context, b *builder) error {
	isComplete, err := l.records.isComplete()
	if err != nil {
		return err
	}
	if err := b.addDatastores(ctx); err != nil {
		return err
	}
	defer l.places.start()
	if isComplete {
		return l.restore()
	}
	if err := b.addMachines(ctx); err != nil {
		return err
	}
	return l.records.markComplete()
}

// restore makes what an earlier run left: places first, for the machines in them.
func (l *lab) restore() error {
	if err := l.restorePlaces(); err != nil {
		return err
	}
	if err := l.records.restore(); err != nil {
		return err
	}
	return l.restoreFields()
}

// identify gives this vCenter the identity it had at its last run.
func (l *lab) identify() error {
	file := filepath.Join(l.data, "instance-uuid")
	known, err := os.ReadFile(file)
	if os.IsNotExist(err) {
		known = []byte(uuid.NewString())
		err = os.WriteFile(file, known, 0o600)
	}
	if err != nil {
		return err
	}
	instance := l.registry.Get(types.ManagedObjectReference{Type: "ServiceInstance", Value: "ServiceInstance"})
	instance.(*simulator.ServiceInstance).Content.About.InstanceUuid = string(known)
	return nil
}

func (l *lab) close() {
	if l.control != nil {
		_ = l.control.Close()
	}
	if l.server != nil {
		l.web.dropAll()
	}
	l.guests.killAll(ref{})
	l.records.flush()
	l.model.Remove()
	log.Print("stopped")
}

// context returns a context of the simulator for one operation of ours; locks are taken in its name.
func (l *lab) context() *simulator.Context {
	c := *l.service.Context
	return &c
}

func (l *lab) addDatastore(name, folder string) {
	l.storesMu.Lock()
	defer l.storesMu.Unlock()
	l.stores[name] = folder
}

// machine returns the simulator's object of a machine; nil when it is gone.
func (l *lab) machine(r ref) *simulator.VirtualMachine {
	vm, _ := l.registry.Get(r).(*simulator.VirtualMachine)
	return vm
}

// snapshot returns the simulator's object of a snapshot; nil when it is gone.
func (l *lab) snapshot(r ref) *simulator.VirtualMachineSnapshot {
	s, _ := l.registry.Get(r).(*simulator.VirtualMachineSnapshot)
	return s
}

// dispatch runs before every call of a session. It puts our wrapper of the called object into the
// session's own registry, which the simulator asks first; the global registry keeps the plain
// object, because the simulator asserts its concrete type in many places.
func (l *lab) dispatch(ctx *simulator.Context, method *simulator.Method) (mo.Reference, types.BaseMethodFault) {
	l.noteHolder(ctx, method.This)
	if fault := l.accounts.check(l, ctx, method); fault != nil {
		return nil, fault
	}
	if fault := l.strangerFault(method); fault != nil {
		return nil, fault
	}
	if ctx.Session == nil {
		return nil, nil
	}
	if ctx.Session.Registry.Get(method.This) == nil {
		if wrapper := l.wrap(method.This); wrapper != nil {
			l.wrapMu.Lock()
			ctx.Session.Registry.Put(wrapper)
			l.wrapped[method.This] = append(l.wrapped[method.This], ctx.Session.Registry)
			l.wrapMu.Unlock()
		}
	}
	return nil, nil
}

// wrap returns our view of an object; nil when the simulator's own is good as it is.
func (l *lab) wrap(r ref) mo.Reference {
	switch object := l.registry.Get(r).(type) {
	case *simulator.VirtualMachine:
		return &machine{VirtualMachine: object, lab: l}
	case *simulator.VirtualMachineSnapshot:
		return &snapshot{VirtualMachineSnapshot: object, lab: l}
	case *simulator.VirtualDiskManager:
		return &diskManager{VirtualDiskManager: object, lab: l}
	case *simulator.AuthorizationManager:
		return &authorization{AuthorizationManager: object, lab: l}
	case *simulator.FileManager:
		return &fileManager{FileManager: object, lab: l}
	case *simulator.PerformanceManager:
		return &performance{PerformanceManager: object, lab: l}
	case *simulator.ResourcePool:
		return &pool{ResourcePool: object, lab: l}
	case *simulator.Folder:
		return &folder{Folder: object, lab: l}
	case *simulator.CustomFieldsManager:
		return &fields{CustomFieldsManager: object, lab: l}
	}
	return nil
}

// unwrap forgets the wrappers of an object that is gone.
func (l *lab) unwrap(r ref) {
	l.wrapMu.Lock()
	registries := l.wrapped[r]
	delete(l.wrapped, r)
	l.wrapMu.Unlock()
	for _, registry := range registries {
		registry.Remove(l.context(), r)
	}
}

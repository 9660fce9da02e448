package main

import (
	"encoding/json"
	"errors"
	"log"
	"os"
	"path/filepath"
	"sort"
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
)

// placeRecord is what there is of a folder or a resource pool.
type placeRecord struct {
	Self      ref      `json:"self"`
	Parent    ref      `json:"parent"`
	Name      string   `json:"name"`
	ChildType []string `json:"childType,omitempty"` // of a folder
	Owner     *ref     `json:"owner,omitempty"`     // of a pool
}

// places keeps a copy of every folder and pool, and writes it at each change. The watcher tells of
// changes under the lock of the object; no lock of the simulator is needed here.
type places struct {
	file string

	mu       sync.Mutex
	known    map[ref]placeRecord
	isFrozen bool // while the first inventory is made, and made again, nothing is written
}

func newPlaces(l *lab) *places {
	return &places{file: filepath.Join(l.data, "places.json"), known: map[ref]placeRecord{}, isFrozen: true}
}

// note remembers a folder or pool as it is now. Other objects are none of ours.
func (p *places) note(object any) {
	switch x := object.(type) {
	case *simulator.Folder:
		p.noteFolder(&x.Folder)
	case *mo.Folder:
		p.noteFolder(x)
	case *simulator.ResourcePool:
		p.notePool(&x.ResourcePool)
	case *mo.ResourcePool:
		p.notePool(x)
	}
}

func (p *places) noteFolder(f *mo.Folder) {
	if f.Parent != nil {
		p.set(placeRecord{Self: f.Self, Parent: *f.Parent, Name: f.Name, ChildType: f.ChildType})
	}
}

func (p *places) notePool(r *mo.ResourcePool) {
	if r.Parent != nil {
		owner := r.Owner
		p.set(placeRecord{Self: r.Self, Parent: *r.Parent, Name: r.Name, Owner: &owner})
	}
}

func (p *places) set(record placeRecord) {
	p.mu.Lock()
	defer p.mu.Unlock()
	old, isKnown := p.known[record.Self]
	p.known[record.Self] = record
	if !isKnown || old.Name != record.Name || old.Parent != record.Parent {
		p.save()
	}
}

func (p *places) forget(r ref) {
	p.mu.Lock()
	defer p.mu.Unlock()
	gone, isKnown := p.known[r]
	if !isKnown {
		return
	}
	delete(p.known, r)
	for child, record := range p.known {
		if record.Parent == r { // the pools below move up, of which the simulator tells nobody
			record.Parent = gone.Parent
			p.known[child] = record
		}
	}
	p.save()
}

// save writes all places. The caller holds the lock.
func (p *places) save() {
	if p.isFrozen {
		return
	}
	records := []placeRecord{}
	for _, record := range p.known {
		records = append(records, record)
	}
	sort.Slice(records, func(i, j int) bool {
		return referenceNumber(records[i].Self) < referenceNumber(records[j].Self)
	})
	writeRecord(p.file, records)
}

// start writes from now on.
func (p *places) start() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.isFrozen = false
}

// restore makes the folders and pools that an earlier run left; those of the first inventory are there
// already and get their names. A place whose parent is gone is dropped with all below it.
func (l *lab) restorePlaces() error {
	var records []placeRecord
	if err := readRecordOf(l.places.file, &records); err != nil {
		return err
	}
	for isProgress := true; isProgress; {
		isProgress = false
		for i, record := range records {
			if record.Self.Value != "" && l.restorePlace(record) {
				records[i], isProgress = placeRecord{}, true
			}
		}
	}
	return nil
}

// restorePlace returns whether the place is there now.
func (l *lab) restorePlace(record placeRecord) bool {
	switch x := l.registry.Get(record.Self).(type) {
	case *simulator.Folder:
		x.Name = record.Name
		return true
	case *simulator.ResourcePool:
		x.Name = record.Name
		return true
	}
	switch parent := l.registry.Get(record.Parent).(type) {
	case *simulator.Folder:
		made := &simulator.Folder{}
		made.Self, made.Name, made.ChildType = record.Self, record.Name, record.ChildType
		parent.ChildEntity = append(parent.ChildEntity, record.Self)
		l.registry.PutEntity(parent, made)
	case *simulator.ResourcePool:
		if record.Owner == nil {
			return false
		}
		made := simulator.NewResourcePool(l.context())
		made.Self, made.Name, made.Owner = record.Self, record.Name, *record.Owner
		made.Summary.GetResourcePoolSummary().Name = record.Name
		parent.ResourcePool.ResourcePool = append(parent.ResourcePool.ResourcePool, record.Self)
		l.registry.PutEntity(parent, made)
	default:
		return false
	}
	return true
}

// writeRecord replaces a file of ours; a failure is logged, for nobody waits for it.
func writeRecord(file string, record any) {
	if err := writeJSON(file, record); err != nil {
		log.Printf("%s: %s", file, err)
	}
}

// readRecordOf reads a file of ours; it is no error when there is none.
func readRecordOf(file string, into any) error {
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}

package main

import (
	"log"
	"os"

	"github.com/vmware/govmomi/simulator"
)

// keepStateFile takes the file of a new snapshot, the .vmsn, into our care. The simulator deletes it
// by a number that it gives to other files whenever it reads the folder again, so that a removed
// snapshot could take the descriptor of a disk with it.
func (g *diskGraph) keepStateFile(vm *simulator.VirtualMachine, taken ref) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range vm.LayoutEx.Snapshot {
		layout := &vm.LayoutEx.Snapshot[i]
		if layout.Key != taken {
			continue
		}
		for _, file := range vm.LayoutEx.File {
			if file.Key == layout.DataKey {
				g.states[taken] = file.Name
			}
		}
		layout.DataKey, layout.MemoryKey = -1, -1
	}
}

func (g *diskGraph) stateFile(snapshot ref) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.states[snapshot]
}

// dropStateFiles deletes the files of snapshots that are gone.
func (g *diskGraph) dropStateFiles(gone []ref) {
	for _, r := range gone {
		name, known := g.states[r]
		if !known {
			continue
		}
		delete(g.states, r)
		if err := os.Remove(g.lab.resolve(name)); err != nil && !os.IsNotExist(err) {
			log.Printf("snapshot %s: %s", r.Value, err)
		}
	}
}

package main

import (
	"bytes"
	"encoding/gob"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// savePause is how long a change that no task of ours made may be missing on disk.
const savePause = 50 * time.Millisecond

// machineRecord is all there is of a machine besides its files.
type machineRecord struct {
	Machine   mo.VirtualMachine `json:"machine"`
	Snapshots []snapshotRecord  `json:"snapshots"`
	NoTools   bool              `json:"noTools"`
}

type snapshotRecord struct {
	Snapshot  mo.VirtualMachineSnapshot `json:"snapshot"`
	StateFile string                    `json:"stateFile"`
}

// recorder writes machines to disk, so that they outlive the process.
type recorder struct {
	lab    *lab
	folder string
	files  sync.Mutex // held while files are written, so that no older state follows a newer one

	mu    sync.Mutex
	dirty map[ref]bool
	vmx   map[ref]string // content of the vmx as it stands on disk
}

func newRecorder(l *lab) *recorder {
	return &recorder{
		lab: l, folder: filepath.Join(l.data, "machines"), dirty: map[ref]bool{}, vmx: map[ref]string{},
	}
}

// touch remembers that a machine has changed.
func (r *recorder) touch(vm ref) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dirty[vm] = true
}

// isDirty takes a machine from the list of changed ones; true when it was there.
func (r *recorder) isDirty(vm ref) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	was := r.dirty[vm]
	delete(r.dirty, vm)
	return was
}

// run writes changes for as long as the process lives.
func (r *recorder) run(done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		case <-time.After(savePause):
			r.flush()
		}
	}
}

// flush writes every machine that has changed.
func (r *recorder) flush() {
	r.mu.Lock()
	var changed []ref
	for vm := range r.dirty {
		changed = append(changed, vm)
	}
	r.mu.Unlock()
	for _, vm := range changed {
		r.awaitCreation(vm)
		ctx := r.lab.context()
		ctx.WithLock(&reference{Self: vm}, func() { r.saveGuarded(vm) })
	}
}

// awaitCreation waits until a machine is no longer being made: that is done under the lock of its folder, not under its
// own. The locks are taken one after the other, because those who remove a machine hold its own first.
func (r *recorder) awaitCreation(vm ref) {
	found := r.lab.machine(vm)
	if found == nil || found.Parent == nil {
		return
	}
	ctx := r.lab.context()
	ctx.WithLock(&reference{Self: *found.Parent}, func() {})
}

// saveGuarded is save for a goroutine of ours, in which a panic would end the process: the machine stays on the list.
func (r *recorder) saveGuarded(vm ref) {
	defer func() {
		if reason := recover(); reason != nil {
			_ = mishap("record of "+vm.Value, reason)
			r.touch(vm)
		}
	}()
	r.save(vm)
}

// reference stands for an object whose lock is wanted.
type reference struct{ Self ref }

// Reference satisfies the registry's interface.
func (r *reference) Reference() ref { return r.Self }

// save writes a machine if it has changed. The caller holds its lock.
func (r *recorder) save(vm ref) {
	found := r.lab.machine(vm)
	if found != nil && !isMade(found) {
		return // and stays on the list
	}
	if !r.isDirty(vm) || found == nil {
		return
	}
	r.files.Lock()
	defer r.files.Unlock()
	if err := r.write(found); err != nil {
		log.Printf("record of %s: %s", vm.Value, err)
	}
	if err := r.lab.tracks.save(vm, r.file(vm, ".tracks")); err != nil {
		log.Printf("tracking of %s: %s", vm.Value, err)
	}
	r.saveVMX(found)
}

// isMade tells whether the simulator has made a machine's files. While it makes them a vmx of ours would be in its
// way; it names the environment browser right behind them.
func isMade(vm *simulator.VirtualMachine) bool {
	return vm.Runtime.Host != nil && vm.Config.Files.VmPathName != "" && vm.EnvironmentBrowser.Value != ""
}

func (r *recorder) file(vm ref, kind string) string { return filepath.Join(r.folder, vm.Value+kind) }

func (r *recorder) write(vm *simulator.VirtualMachine) error {
	record := machineRecord{Machine: vm.VirtualMachine, NoTools: r.lab.accounts.withoutTools(vm.Self)}
	record.Machine.RecentTask = nil
	for _, s := range r.lab.snapshotsOf(vm) {
		if found := r.lab.snapshot(s); found != nil {
			record.Snapshots = append(record.Snapshots, snapshotRecord{
				Snapshot: found.VirtualMachineSnapshot, StateFile: r.lab.disks.stateFile(s),
			})
		}
	}
	var text bytes.Buffer
	if err := types.NewJSONEncoder(&text).Encode(record); err != nil {
		return err
	}
	return replaceFile(r.file(vm.Self, ".json"), func(out *os.File) error {
		_, err := out.Write(text.Bytes())
		return err
	})
}

// replaceFile writes a file beside the old one and then puts it in its place.
func replaceFile(file string, write func(*os.File) error) error {
	draft := file + ".new"
	out, err := os.Create(draft)
	if err != nil {
		return err
	}
	if err := write(out); err != nil {
		_ = out.Close()
		return err
	}
	if err := out.Close(); err != nil {
		return err
	}
	return os.Rename(draft, file)
}

// forget deletes what is known of a machine that is gone.
func (r *recorder) forget(vm ref) {
	r.mu.Lock()
	delete(r.dirty, vm)
	delete(r.vmx, vm)
	r.mu.Unlock()
	r.files.Lock()
	defer r.files.Unlock()
	for _, kind := range []string{".json", ".tracks"} {
		if err := os.Remove(r.file(vm, kind)); err != nil && !os.IsNotExist(err) {
			log.Printf("record of %s: %s", vm.Value, err)
		}
	}
}

// saveVMX brings the machine's own file in step. It is no error when its folder is gone.
func (r *recorder) saveVMX(vm *simulator.VirtualMachine) {
	text := vmxOf(vm)
	r.mu.Lock()
	isSame := r.vmx[vm.Self] == text
	r.vmx[vm.Self] = text
	r.mu.Unlock()
	file := r.lab.resolve(vm.Config.Files.VmPathName)
	if isSame || file == "" {
		return
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil && !os.IsNotExist(err) {
		log.Printf("vmx of %s: %s", vm.Name, err)
	}
}

// trackRecord is a track as it is written.
type trackRecord struct {
	Incarnation string
	Epoch       int
	Blocks      []uint64
	Changes     map[int][]span
	Marks       map[ref]markRecord
	IsLate      bool
}

type markRecord struct {
	Incarnation string
	Epoch       int
}

// save writes the tracks of a machine if they have changed.
func (t *tracker) save(vm ref, file string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.dirty[vm] {
		return nil
	}
	delete(t.dirty, vm)
	if len(t.tracks[vm]) == 0 {
		if err := os.Remove(file); err != nil && !os.IsNotExist(err) {
			return err
		}
		return nil
	}
	records := map[int32]trackRecord{}
	for key, track := range t.tracks[vm] {
		marks := map[ref]markRecord{}
		for r, m := range track.marks {
			marks[r] = markRecord{m.incarnation, m.epoch}
		}
		records[key] = trackRecord{track.incarnation, track.epoch, track.blocks, track.changes, marks, track.isLate}
	}
	return replaceFile(file, func(out *os.File) error { return gob.NewEncoder(out).Encode(records) })
}

// load reads the tracks of a machine; it is no error when there are none.
func (t *tracker) load(vm ref, file string) error {
	in, err := os.Open(file)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer in.Close()
	records := map[int32]trackRecord{}
	if err := gob.NewDecoder(in).Decode(&records); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tracks[vm] = map[int32]*track{}
	for key, r := range records {
		loaded := &track{incarnation: r.Incarnation, epoch: r.Epoch, blocks: r.Blocks, changes: r.Changes, isLate: r.IsLate}
		loaded.marks = map[ref]mark{}
		if loaded.changes == nil {
			loaded.changes = map[int][]span{}
		}
		for snapshot, m := range r.Marks {
			loaded.marks[snapshot] = mark{m.Incarnation, m.Epoch}
		}
		t.tracks[vm][key] = loaded
	}
	return nil
}

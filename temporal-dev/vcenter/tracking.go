package main

import (
	"crypto/rand"
	"fmt"
	"hash/crc32"
	"os"
	"strings"
	"sync"

	"github.com/vmware/govmomi/simulator"
)

// trackBlock is the granularity of changed-block tracking, that of small disks on ESXi.
const trackBlock = 64 << 10

// track is the change tracking of one disk. Writers are not seen, so each epoch is found by
// comparing digests of the blocks at two snapshots.
type track struct {
	incarnation string // the part of a change id before the slash
	epoch       int    // the part behind it
	blocks      []uint64
	changes     map[int][]span // what changed between an epoch and the one before
	marks       map[ref]mark   // the moment of each snapshot
	isLate      bool           // switched on while a snapshot existed: `*` answers with everything
	lies        []span         // stretches that are never reported, by wish of the control endpoint
}

// mark is the moment of a snapshot in the life of a track.
type mark struct {
	incarnation string
	epoch       int
}

func (t *track) id() string { return fmt.Sprintf("%s/%d", t.incarnation, t.epoch) }

// tracker holds the tracks of all machines, by disk key.
type tracker struct {
	mu     sync.Mutex
	tracks map[ref]map[int32]*track
	dirty  map[ref]bool // whose tracks differ from those on disk
	zero   uint64
}

func newTracker() *tracker {
	return &tracker{
		tracks: map[ref]map[int32]*track{}, dirty: map[ref]bool{}, zero: blockDigest(make([]byte, trackBlock)),
	}
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// blockDigest joins two checksums that processors compute. It stays the same over restarts.
func blockDigest(block []byte) uint64 {
	return uint64(crc32.ChecksumIEEE(block))<<32 | uint64(crc32.Checksum(block, castagnoli))
}

func newIncarnation() string {
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails
	return spacedUUID(fmt.Sprintf("%x", random))
}

// sync starts and ends tracks as the machine's configuration says. Disks that snapshots leave out
// are not tracked.
func (t *tracker) sync(l *lab, vm *simulator.VirtualMachine) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dirty[vm.Self] = true
	if !isTrueOr(vm.Config.ChangeTrackingEnabled, false) {
		delete(t.tracks, vm.Self)
		return
	}
	if t.tracks[vm.Self] == nil {
		t.tracks[vm.Self] = map[int32]*track{}
	}
	for _, disk := range disksOf(vm.Config.Hardware.Device) {
		if disk.isIndependent() || t.tracks[vm.Self][disk.Key] != nil {
			continue
		}
		blocks, err := t.digests(l.resolve(l.disks.extentOf(disk.backing.FileName)))
		if err != nil {
			continue // no bytes, nothing to track; opening the disk reports it
		}
		t.tracks[vm.Self][disk.Key] = &track{
			incarnation: newIncarnation(), blocks: blocks, changes: map[int][]span{}, marks: map[ref]mark{},
			isLate: len(l.snapshotsOf(vm)) > 0,
		}
	}
}

// extentOf is extent for a file that may be unknown.
func (g *diskGraph) extentOf(name string) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	f := g.files[name]
	return extentName(name, f != nil && f.parent != "")
}

// reset starts a disk's tracking anew, as after a power failure or an extension: ids given before
// are refused from now on.
func (t *tracker) reset(vm ref, key int32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dirty[vm] = true
	delete(t.tracks[vm], key)
}

// forget ends the tracking of all disks of a machine.
func (t *tracker) forget(vm ref) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dirty[vm] = true
	delete(t.tracks, vm)
}

// dropSnapshots forgets the moments of snapshots that are gone; what changed since stays known.
func (t *tracker) dropSnapshots(gone []ref) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for vm, disks := range t.tracks {
		t.dirty[vm] = t.dirty[vm] || len(gone) > 0
		for _, track := range disks {
			for _, r := range gone {
				delete(track.marks, r)
			}
		}
	}
}

// advance begins a new epoch with a snapshot that was just frozen, and writes the change ids into
// the snapshot's configuration.
func (t *tracker) advance(l *lab, vm *simulator.VirtualMachine, taken *simulator.VirtualMachineSnapshot) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dirty[vm.Self] = true
	for _, disk := range disksOf(taken.Config.Hardware.Device) {
		track := t.tracks[vm.Self][disk.Key]
		disk.backing.ChangeId = ""
		if track == nil || disk.isIndependent() {
			continue
		}
		blocks, err := t.digests(l.resolve(l.disks.extentOf(disk.backing.FileName)))
		if err != nil {
			return err
		}
		changed := difference(track.blocks, blocks)
		track.epoch++
		track.blocks, track.changes[track.epoch] = blocks, changed
		track.marks[taken.Self] = mark{track.incarnation, track.epoch}
		disk.backing.ChangeId = track.id()
	}
	return nil
}

// digests returns one digest per block of a file; blocks of zeros and holes have the digest 0.
func (t *tracker) digests(file string) ([]uint64, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	size := info.Size()
	runs, err := dataRuns(f, size)
	if err != nil {
		return nil, err
	}
	blocks := make([]uint64, (size+trackBlock-1)/trackBlock)
	buffer := make([]byte, trackBlock)
	for _, r := range rounded(runs, trackBlock, size) {
		for at := r.Start; at < r.end(); at += trackBlock {
			n := min(trackBlock, r.end()-at)
			clear(buffer[n:])
			if _, err := f.ReadAt(buffer[:n], at); err != nil {
				return nil, err
			}
			if digest := blockDigest(buffer); digest != t.zero {
				blocks[at/trackBlock] = digest
			}
		}
	}
	return blocks, nil
}

// difference lists the stretches whose digests differ; a disk that grew differs behind its old end.
func difference(before, after []uint64) []span {
	var runs []span
	for i, digest := range after {
		if i < len(before) && before[i] == digest {
			continue
		}
		start := int64(i) * trackBlock
		if last := len(runs) - 1; last >= 0 && runs[last].end() == start {
			runs[last].Length += trackBlock
			continue
		}
		runs = append(runs, span{start, trackBlock})
	}
	return runs
}

// parseChangeID splits a change id into incarnation and epoch.
func parseChangeID(id string) (string, int, bool) {
	incarnation, number, found := strings.Cut(id, "/")
	var epoch int
	if n, err := fmt.Sscanf(number, "%d", &epoch); !found || n != 1 || err != nil || len(incarnation) != 47 {
		return "", 0, false
	}
	return incarnation, epoch, true
}

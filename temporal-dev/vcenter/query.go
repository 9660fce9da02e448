package main

import (
	"os"
	"sort"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// areasPerReply is how many stretches one answer lists; the caller goes on behind the window.
const areasPerReply = 2000

// QueryChangedDiskAreas lists what changed between a change id and a snapshot, or with the id `*`
// what is allocated in the snapshot. Without a snapshot it answers for a machine that is off.
//
// An id of another incarnation, of a moment after the snapshot, or of a disk that is not tracked
// ends with FileFault, a malformed one with InvalidArgument.
func (m *machine) QueryChangedDiskAreas(
	_ *simulator.Context, req *types.QueryChangedDiskAreas,
) soap.HasFault {
	body := new(methods.QueryChangedDiskAreasBody)
	info, f := m.lab.changedAreas(m.VirtualMachine, req)
	if f != nil {
		body.Fault_ = soapFault(f)
		return body
	}
	body.Res = &types.QueryChangedDiskAreasResponse{Returnval: *info}
	return body
}

func (l *lab) changedAreas(
	vm *simulator.VirtualMachine, req *types.QueryChangedDiskAreas,
) (*types.DiskChangeInfo, fault) {
	devices, f := l.devicesAt(vm, req.Snapshot)
	if f != nil {
		return nil, f
	}
	for _, disk := range disksOf(devices) {
		if disk.Key != req.DeviceKey {
			continue
		}
		if req.StartOffset < 0 || req.StartOffset >= disk.CapacityInBytes {
			return nil, &types.InvalidArgument{InvalidProperty: "startOffset"}
		}
		runs, f := l.tracks.query(l, vm, disk, req)
		if f != nil {
			return nil, f
		}
		return window(runs, req.StartOffset, disk.CapacityInBytes), nil
	}
	return nil, &types.InvalidArgument{InvalidProperty: "deviceKey"}
}

// devicesAt returns the devices of a snapshot, or those of the machine itself when it is off.
func (l *lab) devicesAt(vm *simulator.VirtualMachine, r *ref) ([]types.BaseVirtualDevice, fault) {
	if r != nil {
		s := l.snapshot(*r)
		if s == nil || s.Vm != vm.Self {
			return nil, &types.NotFound{}
		}
		return s.Config.Hardware.Device, nil
	}
	if vm.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOff {
		return nil, &types.InvalidArgument{InvalidProperty: "snapshot"}
	}
	return vm.Config.Hardware.Device, nil
}

func (t *tracker) query(
	l *lab, vm *simulator.VirtualMachine, disk vmDisk, req *types.QueryChangedDiskAreas,
) ([]span, fault) {
	t.mu.Lock()
	defer t.mu.Unlock()
	stale := &types.FileFault{File: disk.backing.FileName}
	track := t.tracks[vm.Self][disk.Key]
	if track == nil || disk.isIndependent() {
		return nil, stale
	}
	extent := l.resolve(l.disks.extentOf(disk.backing.FileName))
	if req.ChangeId == "*" {
		runs, err := allocated(extent, disk.CapacityInBytes, track.isLate)
		if err != nil {
			return nil, stale
		}
		return without(runs, track.lies), nil
	}
	incarnation, since, ok := parseChangeID(req.ChangeId)
	if !ok {
		return nil, &types.InvalidArgument{InvalidProperty: "changeId"}
	}
	until, ok := track.moment(req.Snapshot)
	if !ok || incarnation != track.incarnation || since > until {
		return nil, stale
	}
	runs := track.between(since, until)
	if req.Snapshot == nil {
		now, err := t.digests(extent)
		if err != nil {
			return nil, stale
		}
		runs = union(runs, difference(track.blocks, now))
	}
	return without(clipped(runs, disk.CapacityInBytes), track.lies), nil
}

// moment returns the epoch of a snapshot; without one that of the last snapshot.
func (t *track) moment(r *ref) (int, bool) {
	if r == nil {
		return t.epoch, true
	}
	m, ok := t.marks[*r]
	return m.epoch, ok && m.incarnation == t.incarnation
}

func (t *track) between(since, until int) []span {
	var runs []span
	for epoch := since + 1; epoch <= until; epoch++ {
		runs = union(runs, t.changes[epoch])
	}
	return runs
}

// allocated lists the stretches in use; of a disk whose tracking began too late, all of it.
func allocated(extent string, capacity int64, isAll bool) ([]span, error) {
	if isAll {
		return []span{{0, capacity}}, nil
	}
	f, err := os.Open(extent)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	runs, err := dataRuns(f, capacity)
	return rounded(runs, trackBlock, capacity), err
}

// union joins two lists of runs.
func union(a, b []span) []span {
	all := append(append([]span{}, a...), b...)
	sort.Slice(all, func(i, j int) bool { return all[i].Start < all[j].Start })
	var joined []span
	for _, r := range all {
		if last := len(joined) - 1; last >= 0 && joined[last].end() >= r.Start {
			joined[last].Length = max(joined[last].end(), r.end()) - joined[last].Start
			continue
		}
		joined = append(joined, r)
	}
	return joined
}

func clipped(runs []span, capacity int64) []span {
	var kept []span
	for _, r := range runs {
		if r.Start < capacity {
			kept = append(kept, span{r.Start, min(r.end(), capacity) - r.Start})
		}
	}
	return kept
}

// window lists the stretches from an offset on; it ends before the first that does not fit in.
func window(runs []span, offset, capacity int64) *types.DiskChangeInfo {
	info := &types.DiskChangeInfo{StartOffset: offset, Length: capacity - offset}
	for _, r := range runs {
		if r.end() <= offset {
			continue
		}
		if len(info.ChangedArea) == areasPerReply {
			info.Length = r.Start - offset
			break
		}
		start := max(r.Start, offset)
		info.ChangedArea = append(info.ChangedArea, types.DiskChangeExtent{Start: start, Length: r.end() - start})
	}
	return info
}

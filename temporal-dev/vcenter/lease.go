package main

import (
	"fmt"
	"net/url"
	"os"
	"path"
	"slices"
	"sync"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// leaseSeconds is how long a lease lives without word from its holder.
const leaseSeconds = 300

// lease lets its holder read or write the disks of a machine at addresses that need no session.
type lease struct {
	mo.HttpNfcLease

	lab      *lab
	isImport bool
	holds    ref // the machine

	mu    sync.Mutex
	disks map[string]*leasedDisk
	ended bool
	timer *time.Timer
}

// leasedDisk is a disk behind an address.
type leasedDisk struct {
	key      string
	extent   string
	capacity int64
	sha1     string // of what was transferred last
	size     int64
}

// ExportVm leases the disks of a machine that is off.
func (m *machine) ExportVm(ctx *simulator.Context, _ *types.ExportVm) soap.HasFault {
	body := new(methods.ExportVmBody)
	if state := m.Runtime.PowerState; state != types.VirtualMachinePowerStatePoweredOff {
		body.Fault_ = soapFault(&types.InvalidPowerState{
			RequestedState: types.VirtualMachinePowerStatePoweredOff, ExistingState: state,
		})
		return body
	}
	if f := m.lab.leaseFault(m.Self); f != nil {
		body.Fault_ = soapFault(f)
		return body
	}
	l := m.lab.newLease(false, m.Self)
	l.offer(ctx, m.VirtualMachine, m.Config.Hardware.Device)
	body.Res = &types.ExportVmResponse{Returnval: l.Self}
	return body
}

// ExportSnapshot leases the frozen disks; the machine may be on.
func (s *snapshot) ExportSnapshot(ctx *simulator.Context, _ *types.ExportSnapshot) soap.HasFault {
	if f := s.lab.leaseFault(s.Vm); f != nil {
		return &methods.ExportSnapshotBody{Fault_: soapFault(f)}
	}
	l := s.lab.newLease(false, s.Vm)
	l.offer(ctx, s.lab.machine(s.Vm), s.Config.Hardware.Device)
	return &methods.ExportSnapshotBody{Res: &types.ExportSnapshotResponse{Returnval: l.Self}}
}

// pool is a resource pool as a session sees it.
type pool struct {
	*simulator.ResourcePool

	lab *lab
}

// UpdateConfig tells of a new name.
func (p *pool) UpdateConfig(ctx *simulator.Context, req *types.UpdateConfig) soap.HasFault {
	reply := p.ResourcePool.UpdateConfig(ctx, req)
	p.lab.places.note(p.ResourcePool)
	return reply
}

// ImportVApp creates a machine and leases its disks for writing. The lease is ready when the machine
// is there.
func (p *pool) ImportVApp(ctx *simulator.Context, req *types.ImportVApp) soap.HasFault {
	body := new(methods.ImportVAppBody)
	spec, ok := req.Spec.(*types.VirtualMachineImportSpec)
	if !ok || req.Folder == nil {
		body.Fault_ = soapFault(&types.InvalidArgument{InvalidProperty: "spec"})
		return body
	}
	folder, ok := p.lab.registry.Get(*req.Folder).(*simulator.Folder)
	if !ok {
		body.Fault_ = soapFault(&types.InvalidArgument{InvalidProperty: "folder"})
		return body
	}
	l := p.lab.newLease(true, ref{})
	request := &types.CreateVM_Task{This: folder.Self, Config: spec.ConfigSpec, Pool: p.Self, Host: req.Host}
	go l.create(folder, request)
	body.Res = &types.ImportVAppResponse{Returnval: l.Self}
	return body
}

func (l *lease) create(folder *simulator.Folder, request *types.CreateVM_Task) {
	ctx := l.lab.context()
	var result anyType
	f := l.lab.placeFault(&request.Config, request.Pool, request.Host)
	if f == nil {
		result, f = l.lab.inner(ctx, folder.CreateVMTask(ctx, request))
	}
	if f != nil {
		ctx.WithLock(l, func() {
			ctx.Update(l, []types.PropertyChange{
				{Name: "state", Val: types.HttpNfcLeaseStateError},
				{Name: "error", Val: &types.LocalizedMethodFault{Fault: f, LocalizedMessage: "the machine was not created"}},
			})
		})
		return
	}
	vm := l.lab.machine(result.(ref))
	ctx.WithLock(vm, func() { l.offer(ctx, vm, vm.Config.Hardware.Device) })
}

// leaseFault is why a machine cannot be leased, or lose a snapshot: its disks are being exported.
func (l *lab) leaseFault(vm ref) fault {
	for _, one := range l.openLeases() {
		if one.holds == vm {
			return &types.TaskInProgress{Task: ref{Type: "Task", Value: "task-of-" + one.Self.Value}}
		}
	}
	return nil
}

func (l *lab) openLeases() []*lease {
	l.leasesMu.Lock()
	defer l.leasesMu.Unlock()
	return slices.Clone(l.leases)
}

// endLeases lets every lease time out, and tells how many did.
func (l *lab) endLeases() int {
	open := l.openLeases()
	for _, one := range open {
		one.finish(l.context(), types.HttpNfcLeaseStateError)
	}
	return len(open)
}

func (l *lab) newLease(isImport bool, vm ref) *lease {
	made := &lease{lab: l, isImport: isImport, holds: vm, disks: map[string]*leasedDisk{}}
	made.Self = ref{Type: "HttpNfcLease", Value: fmt.Sprintf("lease-%d", l.taskNumber.Add(1))}
	made.State, made.Mode = types.HttpNfcLeaseStateInitializing, string(types.HttpNfcLeaseModePushOrGet)
	made.timer = time.AfterFunc(leaseSeconds*time.Second, func() { made.finish(l.context(), types.HttpNfcLeaseStateError) })
	l.registry.Put(made)
	l.leasesMu.Lock()
	defer l.leasesMu.Unlock()
	l.leases = append(l.leases, made)
	return made
}

// offer makes the lease ready with an address for each disk.
func (l *lease) offer(ctx *simulator.Context, vm *simulator.VirtualMachine, devices []types.BaseVirtualDevice) {
	info := &types.HttpNfcLeaseInfo{Lease: l.Self, Entity: vm.Self, LeaseTimeout: leaseSeconds}
	base, _ := url.Parse(l.lab.address.URL) // our own
	for i, disk := range disksOf(devices) {
		controller := object.VirtualDeviceList(devices).FindByKey(disk.ControllerKey)
		unit := int32(i)
		if disk.UnitNumber != nil {
			unit = *disk.UnitNumber
		}
		place := fmt.Sprintf("%s%d:%d", object.VirtualDeviceList(devices).TypeName(controller), busNumber(controller), unit)
		name := fmt.Sprintf("disk-%d.vmdk", i)
		leased := &leasedDisk{
			key: "/" + vm.Self.Value + "/" + place, capacity: disk.CapacityInBytes,
			extent: l.lab.resolve(l.lab.disks.extentOf(disk.backing.FileName)),
		}
		l.mu.Lock()
		l.disks[name] = leased
		l.mu.Unlock()
		info.DeviceUrl = append(info.DeviceUrl, types.HttpNfcLeaseDeviceUrl{
			Key: leased.key, ImportKey: "/" + vm.Name + "/" + place, Disk: types.NewBool(true), TargetId: name,
			Url:           (&url.URL{Scheme: base.Scheme, Host: base.Host, Path: path.Join("/nfc", l.Self.Value, name)}).String(),
			SslThumbprint: l.lab.address.Thumbprint, FileSize: allocatedBytes(leased.extent),
		})
		info.TotalDiskCapacityInKB += disk.CapacityInKB
	}
	ctx.WithLock(l, func() {
		ctx.Update(l, []types.PropertyChange{
			{Name: "initializeProgress", Val: int32(100)}, {Name: "info", Val: info},
			{Name: "state", Val: types.HttpNfcLeaseStateReady},
		})
	})
}

func busNumber(controller types.BaseVirtualDevice) int32 {
	if c, ok := controller.(types.BaseVirtualController); ok {
		return c.GetVirtualController().BusNumber
	}
	return 0
}

func allocatedBytes(extent string) int64 {
	in, err := os.Open(extent)
	if err != nil {
		return 0
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return 0
	}
	total := int64(0)
	runs, _ := dataRuns(in, info.Size())
	for _, r := range runs {
		total += r.Length
	}
	return total
}

// finish ends a lease; its addresses are dead from now on. A machine whose import does not end well
// is deleted.
func (l *lease) finish(ctx *simulator.Context, state types.HttpNfcLeaseState) {
	l.mu.Lock()
	wasEnded := l.ended
	l.ended, l.disks = true, map[string]*leasedDisk{}
	l.mu.Unlock()
	l.timer.Stop()
	if wasEnded {
		return
	}
	l.lab.leasesMu.Lock()
	l.lab.leases = slices.DeleteFunc(l.lab.leases, func(one *lease) bool { return one == l })
	l.lab.leasesMu.Unlock()
	ctx.WithLock(l, func() { ctx.Update(l, []types.PropertyChange{{Name: "state", Val: state}}) })
	if l.isImport && l.Info != nil && state == types.HttpNfcLeaseStateError {
		if vm := l.lab.machine(l.Info.Entity); vm != nil {
			vm.DestroyTask(l.lab.context(), &types.Destroy_Task{This: vm.Self})
		}
	}
}

// HttpNfcLeaseComplete ends the lease after the transfer.
func (l *lease) HttpNfcLeaseComplete(ctx *simulator.Context, _ *types.HttpNfcLeaseComplete) soap.HasFault {
	l.finish(ctx, types.HttpNfcLeaseStateDone)
	return &methods.HttpNfcLeaseCompleteBody{Res: new(types.HttpNfcLeaseCompleteResponse)}
}

// HttpNfcLeaseAbort ends the lease in the middle; an imported machine is deleted.
func (l *lease) HttpNfcLeaseAbort(ctx *simulator.Context, _ *types.HttpNfcLeaseAbort) soap.HasFault {
	l.finish(ctx, types.HttpNfcLeaseStateError)
	return &methods.HttpNfcLeaseAbortBody{Res: new(types.HttpNfcLeaseAbortResponse)}
}

// HttpNfcLeaseProgress tells how far the holder is, and keeps the lease alive.
func (l *lease) HttpNfcLeaseProgress(ctx *simulator.Context, req *types.HttpNfcLeaseProgress) soap.HasFault {
	l.mu.Lock()
	isEnded := l.ended
	l.mu.Unlock()
	if isEnded {
		return &methods.HttpNfcLeaseProgressBody{Fault_: soapFault(&types.InvalidState{})}
	}
	l.timer.Reset(leaseSeconds * time.Second)
	ctx.Update(l, []types.PropertyChange{{Name: "transferProgress", Val: req.Percent}})
	return &methods.HttpNfcLeaseProgressBody{Res: new(types.HttpNfcLeaseProgressResponse)}
}

// HttpNfcLeaseGetManifest lists what was transferred.
func (l *lease) HttpNfcLeaseGetManifest(_ *simulator.Context, _ *types.HttpNfcLeaseGetManifest) soap.HasFault {
	l.mu.Lock()
	defer l.mu.Unlock()
	entries := []types.HttpNfcLeaseManifestEntry{}
	for _, disk := range l.disks {
		if disk.sha1 != "" {
			entries = append(entries, types.HttpNfcLeaseManifestEntry{
				Key: disk.key, Sha1: disk.sha1, Size: disk.size, Disk: true, Capacity: disk.capacity,
			})
		}
	}
	return &methods.HttpNfcLeaseGetManifestBody{Res: &types.HttpNfcLeaseGetManifestResponse{Returnval: entries}}
}

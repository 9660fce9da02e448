package main

import (
	"os"
	"path"
	"strings"

	"github.com/google/uuid"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// diskManager is the VirtualDiskManager with bytes behind the names.
type diskManager struct {
	*simulator.VirtualDiskManager

	lab *lab
}

// run does work on disk files as a task whose result is a name.
func (m *diskManager) run(ctx *simulator.Context, name string, center *ref, work func(*diskGraph) fault) ref {
	return m.lab.task(ctx, m.Self, name, func() (anyType, fault) {
		if center == nil {
			return nil, &types.InvalidArgument{InvalidProperty: "datacenter"}
		}
		m.lab.disks.mu.Lock()
		defer m.lab.disks.mu.Unlock()
		return nil, work(m.lab.disks)
	})
}

// CreateVirtualDiskTask makes an empty, sparse disk in a folder that exists.
func (m *diskManager) CreateVirtualDiskTask(ctx *simulator.Context, req *types.CreateVirtualDisk_Task) soap.HasFault {
	task := m.run(ctx, "createVirtualDisk", req.Datacenter, func(g *diskGraph) fault {
		spec, ok := req.Spec.(types.BaseFileBackedVirtualDiskSpec)
		if !ok || spec.GetFileBackedVirtualDiskSpec().CapacityKb <= 0 {
			return &types.InvalidArgument{InvalidProperty: "spec"}
		}
		if f := g.freeFault(req.Name, false); f != nil {
			return f
		}
		return g.create(req.Name, spec.GetFileBackedVirtualDiskSpec().CapacityKb*1024, "")
	})
	return &methods.CreateVirtualDisk_TaskBody{Res: &types.CreateVirtualDisk_TaskResponse{Returnval: task}}
}

// CopyVirtualDiskTask makes a disk of its own from what a disk, or a link of a chain, holds.
func (m *diskManager) CopyVirtualDiskTask(ctx *simulator.Context, req *types.CopyVirtualDisk_Task) soap.HasFault {
	task := m.run(ctx, "copyVirtualDisk", req.SourceDatacenter, func(g *diskGraph) fault {
		source, f := g.find(req.SourceName)
		if f == nil {
			f = g.lockedFault(source, false)
		}
		if f == nil {
			f = g.freeFault(req.DestName, isTrueOr(req.Force, false))
		}
		if f != nil {
			return f
		}
		return g.create(req.DestName, 0, g.extent(source))
	})
	return &methods.CopyVirtualDisk_TaskBody{Res: &types.CopyVirtualDisk_TaskResponse{Returnval: task}}
}

// MoveVirtualDiskTask renames a disk that no running machine has. Machines that are off are not told.
func (m *diskManager) MoveVirtualDiskTask(ctx *simulator.Context, req *types.MoveVirtualDisk_Task) soap.HasFault {
	task := m.run(ctx, "moveVirtualDisk", req.SourceDatacenter, func(g *diskGraph) fault {
		source, f := g.find(req.SourceName)
		if f == nil {
			f = g.lockedFault(source, true)
		}
		if f == nil {
			f = g.freeFault(req.DestName, isTrueOr(req.Force, false))
		}
		if f != nil {
			return f
		}
		return g.move(source, req.DestName)
	})
	return &methods.MoveVirtualDisk_TaskBody{Res: &types.MoveVirtualDisk_TaskResponse{Returnval: task}}
}

// DeleteVirtualDiskTask deletes a disk that no running machine has.
func (m *diskManager) DeleteVirtualDiskTask(ctx *simulator.Context, req *types.DeleteVirtualDisk_Task) soap.HasFault {
	task := m.run(ctx, "deleteVirtualDisk", req.Datacenter, func(g *diskGraph) fault {
		found, f := g.find(req.Name)
		if f == nil {
			f = g.lockedFault(found, true)
		}
		if f == nil {
			f = asFault(g.remove(found))
		}
		return f
	})
	return &methods.DeleteVirtualDisk_TaskBody{Res: &types.DeleteVirtualDisk_TaskResponse{Returnval: task}}
}

// ExtendVirtualDiskTask appends zeros to a disk that no running machine has and that has no parent.
func (m *diskManager) ExtendVirtualDiskTask(ctx *simulator.Context, req *types.ExtendVirtualDisk_Task) soap.HasFault {
	task := m.run(ctx, "extendVirtualDisk", req.Datacenter, func(g *diskGraph) fault {
		found, f := g.find(req.Name)
		if f == nil {
			f = g.lockedFault(found, true)
		}
		if f != nil {
			return f
		}
		info, err := os.Stat(g.extent(found))
		if err != nil {
			return systemError(err)
		}
		if found.parent != "" || req.NewCapacityKb*1024 < info.Size() {
			return &types.InvalidArgument{InvalidProperty: "newCapacityKb"}
		}
		if err := os.Truncate(g.extent(found), req.NewCapacityKb*1024); err != nil {
			return systemError(err)
		}
		for user := range found.users {
			g.lab.tracks.forget(user)
		}
		return asFault(g.writeDescriptor(found, req.NewCapacityKb*1024, uuidOf(g.lab.resolve(found.name))))
	})
	return &methods.ExtendVirtualDisk_TaskBody{Res: &types.ExtendVirtualDisk_TaskResponse{Returnval: task}}
}

// QueryVirtualDiskUuid reads the uuid from the descriptor, in the form files have.
func (m *diskManager) QueryVirtualDiskUuid(
	_ *simulator.Context, req *types.QueryVirtualDiskUuid,
) soap.HasFault {
	body := new(methods.QueryVirtualDiskUuidBody)
	m.lab.disks.mu.Lock()
	defer m.lab.disks.mu.Unlock()
	found, f := m.lab.disks.find(req.Name)
	if f != nil {
		body.Fault_ = soapFault(f)
		return body
	}
	text := spacedUUID(uuidOf(m.lab.resolve(found.name)))
	body.Res = &types.QueryVirtualDiskUuidResponse{Returnval: text}
	return body
}

// SetVirtualDiskUuid writes the uuid into the descriptor.
func (m *diskManager) SetVirtualDiskUuid(_ *simulator.Context, req *types.SetVirtualDiskUuid) soap.HasFault {
	body := new(methods.SetVirtualDiskUuidBody)
	g := m.lab.disks
	g.mu.Lock()
	defer g.mu.Unlock()
	found, f := g.find(req.Name)
	if f == nil && joinedUUID(req.Uuid) == "" {
		f = &types.InvalidArgument{InvalidProperty: "uuid"}
	}
	if f == nil {
		info, err := os.Stat(g.extent(found))
		if err == nil {
			err = g.writeDescriptor(found, info.Size(), joinedUUID(req.Uuid))
		}
		f = asFault(err)
	}
	if f != nil {
		body.Fault_ = soapFault(f)
		return body
	}
	body.Res = new(types.SetVirtualDiskUuidResponse)
	return body
}

func asFault(err error) fault {
	if err == nil {
		return nil
	}
	return systemError(err)
}

// find returns a disk file that exists, and reads its chain if nobody uses it.
func (g *diskGraph) find(name string) (*diskFile, fault) {
	file := g.lab.resolve(name)
	if file == "" {
		return nil, &types.InvalidDatastorePath{DatastorePath: name}
	}
	if _, err := os.Stat(file); err != nil || !isDescriptor(name) {
		return nil, &types.FileNotFound{FileFault: types.FileFault{File: name}}
	}
	if f := g.files[name]; f != nil {
		return f, nil
	}
	f := &diskFile{name: name}
	if hint := parentHint(file); hint != "" {
		f.parent = sibling(name, hint)
	}
	return f, nil
}

func isDescriptor(name string) bool {
	return strings.HasSuffix(name, ".vmdk") && !strings.HasSuffix(name, "-flat.vmdk") &&
		!strings.HasSuffix(name, "-sesparse.vmdk")
}

// lockedFault tells why a file cannot be read, or changed; nil when it can.
func (g *diskGraph) lockedFault(f *diskFile, changes bool) fault {
	if f.locked || (changes && len(g.children(f.name)) > 0) {
		return fileLocked(f.name)
	}
	for _, mode := range g.runningUsers(f, ref{}) {
		if changes || mode != types.VirtualDiskModeIndependent_nonpersistent {
			return fileLocked(f.name)
		}
	}
	return nil
}

// freeFault tells why a disk cannot be made under a name; with force what stands there is deleted.
func (g *diskGraph) freeFault(name string, force bool) fault {
	file := g.lab.resolve(name)
	if file == "" || !isDescriptor(name) {
		return &types.InvalidDatastorePath{DatastorePath: name}
	}
	if _, err := os.Stat(path.Dir(file)); err != nil {
		return &types.FileNotFound{FileFault: types.FileFault{File: path.Dir(name)}}
	}
	if _, err := os.Stat(file); err != nil {
		return nil
	}
	old, f := g.find(name)
	if f == nil && !force {
		f = &types.FileAlreadyExists{FileFault: types.FileFault{File: name}}
	}
	if f == nil {
		f = g.lockedFault(old, true)
	}
	if f == nil {
		f = asFault(g.remove(old))
	}
	return f
}

// create makes a disk of the size, or one with the bytes of a file. Nobody uses it yet.
func (g *diskGraph) create(name string, size int64, bytes string) fault {
	f := &diskFile{name: name}
	if bytes != "" {
		info, err := os.Stat(bytes)
		if err != nil {
			return systemError(err)
		}
		size = info.Size()
		if err := cloneFile(bytes, g.extent(f)); err != nil {
			return systemError(err)
		}
	} else {
		out, err := os.OpenFile(g.extent(f), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
		if err != nil {
			return systemError(err)
		}
		defer out.Close()
		if err := out.Truncate(size); err != nil {
			return systemError(err)
		}
	}
	return asFault(g.writeDescriptor(f, size, uuid.NewString()))
}

// move gives a disk another name.
func (g *diskGraph) move(f *diskFile, name string) fault {
	moved := *f
	moved.name = name
	info, err := os.Stat(g.extent(f))
	if err != nil {
		return systemError(err)
	}
	id := uuidOf(g.lab.resolve(f.name))
	if err := os.Rename(g.extent(f), g.extent(&moved)); err != nil {
		return systemError(err)
	}
	if err := os.Remove(g.lab.resolve(f.name)); err != nil {
		return systemError(err)
	}
	delete(g.files, f.name)
	return asFault(g.writeDescriptor(&moved, info.Size(), id))
}

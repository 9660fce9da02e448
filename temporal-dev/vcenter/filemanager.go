package main

import (
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// fileManager is the FileManager that knows which files are disks of running machines.
type fileManager struct {
	*simulator.FileManager

	lab *lab
}

// MoveDatastoreFileTask moves a file or folder in which no running machine has a disk.
func (m *fileManager) MoveDatastoreFileTask(
	ctx *simulator.Context, req *types.MoveDatastoreFile_Task,
) soap.HasFault {
	task := m.lab.task(ctx, m.Self, "moveDatastoreFile", func() (anyType, fault) {
		if f := m.lab.disks.leave(req.SourceName); f != nil {
			return nil, f
		}
		return m.lab.inner(ctx, m.FileManager.MoveDatastoreFileTask(ctx, req))
	})
	return &methods.MoveDatastoreFile_TaskBody{Res: &types.MoveDatastoreFile_TaskResponse{Returnval: task}}
}

// DeleteDatastoreFileTask deletes a file or folder in which no running machine has a disk.
func (m *fileManager) DeleteDatastoreFileTask(
	ctx *simulator.Context, req *types.DeleteDatastoreFile_Task,
) soap.HasFault {
	task := m.lab.task(ctx, m.Self, "deleteDatastoreFile", func() (anyType, fault) {
		if f := m.lab.disks.leave(req.Name); f != nil {
			return nil, f
		}
		return m.lab.inner(ctx, m.FileManager.DeleteDatastoreFileTask(ctx, req))
	})
	return &methods.DeleteDatastoreFile_TaskBody{Res: &types.DeleteDatastoreFile_TaskResponse{Returnval: task}}
}

// leave forgets what is known of the disks at a path, or below it; a locked one is a fault.
func (g *diskGraph) leave(name string) fault {
	g.mu.Lock()
	defer g.mu.Unlock()
	var gone []string
	for _, f := range g.files {
		extent := extentName(f.name, f.parent != "")
		if f.name != name && extent != name && !strings.HasPrefix(f.name, strings.TrimSuffix(name, "/")+"/") {
			continue
		}
		if f.locked || len(g.runningUsers(f, ref{})) > 0 {
			return fileLocked(f.name)
		}
		gone = append(gone, f.name)
	}
	for _, file := range gone {
		delete(g.files, file)
	}
	return nil
}

// dropDestroyed deletes the files of disks that were removed from a machine together with their
// files. What a snapshot needs stays.
func (g *diskGraph) dropDestroyed(names []string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, name := range names {
		for f := g.files[name]; f != nil && len(f.frozen) == 0 && len(f.users) == 0 && len(g.children(f.name)) == 0; {
			if err := g.remove(f); err != nil {
				return err
			}
			f = g.files[f.parent]
		}
	}
	return nil
}

// destroyed lists the files of the disks that a change removes with their files.
func destroyed(spec *types.VirtualMachineConfigSpec) []string {
	var names []string
	for _, change := range spec.DeviceChange {
		c := change.GetVirtualDeviceConfigSpec()
		if c.FileOperation != types.VirtualDeviceConfigSpecFileOperationDestroy {
			continue
		}
		for _, disk := range disksOf([]types.BaseVirtualDevice{c.Device}) {
			names = append(names, disk.backing.FileName)
		}
	}
	return names
}

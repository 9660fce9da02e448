package main

import (
	"strings"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// need is a privilege that a call asks for on an object.
type need struct {
	on        ref
	privilege string
}

// ownNeeds are the privileges on the called object, or on the machine of the called snapshot, by the
// type of the object and the method.
var ownNeeds = map[string]string{
	"VirtualMachine.CreateSnapshot_Task":           "VirtualMachine.State.CreateSnapshot",
	"VirtualMachine.CreateSnapshotEx_Task":         "VirtualMachine.State.CreateSnapshot",
	"VirtualMachine.RemoveAllSnapshots_Task":       "VirtualMachine.State.RemoveSnapshot",
	"VirtualMachine.ConsolidateVMDisks_Task":       "VirtualMachine.State.RemoveSnapshot",
	"VirtualMachine.RevertToCurrentSnapshot_Task":  "VirtualMachine.State.RevertToSnapshot",
	"VirtualMachineSnapshot.RemoveSnapshot_Task":   "VirtualMachine.State.RemoveSnapshot",
	"VirtualMachineSnapshot.RevertToSnapshot_Task": "VirtualMachine.State.RevertToSnapshot",
	"VirtualMachineSnapshot.RenameSnapshot":        "VirtualMachine.State.RenameSnapshot",
	"VirtualMachineSnapshot.ExportSnapshot":        "VApp.Export",
	"VirtualMachine.ExportVm":                      "VApp.Export",
	"VirtualMachine.QueryChangedDiskAreas":         "VirtualMachine.Provisioning.DiskRandomRead",
	"VirtualMachine.PowerOnVM_Task":                "VirtualMachine.Interact.PowerOn",
	"VirtualMachine.PowerOffVM_Task":               "VirtualMachine.Interact.PowerOff",
	"VirtualMachine.ShutdownGuest":                 "VirtualMachine.Interact.PowerOff",
	"VirtualMachine.SuspendVM_Task":                "VirtualMachine.Interact.Suspend",
	"VirtualMachine.ResetVM_Task":                  "VirtualMachine.Interact.Reset",
	"VirtualMachine.RebootGuest":                   "VirtualMachine.Interact.Reset",
	"VirtualMachine.Rename_Task":                   "VirtualMachine.Config.Rename",
	"VirtualMachine.UnregisterVM":                  "VirtualMachine.Inventory.Unregister",
	"VirtualMachine.Destroy_Task":                  "VirtualMachine.Inventory.Delete",
	"VirtualMachine.CloneVM_Task":                  "VirtualMachine.Provisioning.Clone",
	"VirtualMachine.MarkAsTemplate":                "VirtualMachine.Provisioning.MarkAsTemplate",
	"VirtualMachine.RelocateVM_Task":               "Resource.ColdMigrate",
	"Folder.CreateFolder":                          "Folder.Create",
	"Folder.Rename_Task":                           "Folder.Rename",
	"Folder.Destroy_Task":                          "Folder.Delete",
	"ResourcePool.CreateResourcePool":              "Resource.CreatePool",
	"AuthorizationManager.AddAuthorizationRole":    "Authorization.ModifyRoles",
	"AuthorizationManager.UpdateAuthorizationRole": "Authorization.ModifyRoles",
	"AuthorizationManager.RemoveAuthorizationRole": "Authorization.ModifyRoles",
	"CustomFieldsManager.AddCustomFieldDef":        "Global.ManageCustomFields",
	"CustomFieldsManager.RemoveCustomFieldDef":     "Global.ManageCustomFields",
	"SessionManager.TerminateSession":              "Sessions.TerminateSession",
}

// needsOf lists what a call asks for.
func (l *lab) needsOf(method *simulator.Method) []need {
	on := method.This
	if s := l.snapshot(on); s != nil {
		on = s.Vm
	}
	var needs []need
	if privilege, ok := ownNeeds[method.This.Type+"."+method.Name]; ok {
		if !isEntity(on) {
			on = l.registry.Get(serviceInstance).(contentHolder).ServiceContent().RootFolder
		}
		needs = append(needs, need{on, privilege})
	}
	switch req := method.Body.(type) {
	case *types.ReconfigVM_Task:
		needs = append(needs, reconfigureNeeds(l, on, &req.Spec)...)
	case *types.CreateVM_Task:
		needs = append(needs, need{on, "VirtualMachine.Inventory.Create"}, need{req.Pool, "Resource.AssignVMToPool"})
		needs = append(needs, l.storeNeeds("Datastore.AllocateSpace", filesOfSpec(&req.Config))...)
		needs = append(needs, deviceNeeds(l, on, &req.Config)...)
	case *types.RegisterVM_Task:
		needs = append(needs, need{on, "VirtualMachine.Inventory.Register"})
		if req.Pool != nil {
			needs = append(needs, need{*req.Pool, "Resource.AssignVMToPool"})
		}
	case *types.ImportVApp:
		needs = append(needs, need{on, "VApp.Import"})
	case *types.SetField:
		needs = append(needs, need{req.Entity, "Global.SetCustomField"})
	case *types.SetEntityPermissions:
		needs = append(needs, need{req.Entity, "Authorization.ModifyPermissions"})
	default:
		needs = append(needs, l.fileNeeds(method.Body)...)
		needs = append(needs, guestNeeds(method.Body)...)
	}
	return needs
}

func isEntity(r ref) bool {
	return !strings.HasSuffix(r.Type, "Manager")
}

func filesOfSpec(spec *types.VirtualMachineConfigSpec) string {
	if spec.Files == nil {
		return ""
	}
	return spec.Files.VmPathName
}

// reconfigureNeeds lists a privilege for each thing that a specification changes.
func reconfigureNeeds(l *lab, vm ref, spec *types.VirtualMachineConfigSpec) []need {
	parts := []struct {
		isSet bool
		name  string
	}{
		{spec.ChangeTrackingEnabled != nil, "ChangeTracking"},
		{spec.Name != "", "Rename"},
		{spec.Annotation != "", "Annotation"},
		{spec.NumCPUs != 0 || spec.NumCoresPerSocket != nil, "CPUCount"},
		{spec.MemoryMB != 0, "Memory"},
		{len(spec.ExtraConfig) > 0, "AdvancedConfig"},
		{spec.GuestId != "" || spec.Flags != nil || spec.Tools != nil || spec.BootOptions != nil, "Settings"},
	}
	var needs []need
	for _, part := range parts {
		if part.isSet {
			needs = append(needs, need{vm, "VirtualMachine.Config." + part.name})
		}
	}
	return append(needs, deviceNeeds(l, vm, spec)...)
}

func deviceNeeds(l *lab, on ref, spec *types.VirtualMachineConfigSpec) []need {
	var needs []need
	for _, change := range spec.DeviceChange {
		c := change.GetVirtualDeviceConfigSpec()
		disk, isDisk := c.Device.(*types.VirtualDisk)
		name := "AddRemoveDevice"
		switch {
		case isDisk && c.Operation == types.VirtualDeviceConfigSpecOperationAdd && c.FileOperation == "":
			name = "AddExistingDisk"
		case isDisk && c.Operation == types.VirtualDeviceConfigSpecOperationAdd:
			name = "AddNewDisk"
			needs = append(needs, l.storeNeeds("Datastore.AllocateSpace", fileOfDisk(disk))...)
		case isDisk && c.Operation == types.VirtualDeviceConfigSpecOperationRemove:
			name = "RemoveDisk"
		case isDisk:
			name = "DiskExtend"
		case c.Operation == types.VirtualDeviceConfigSpecOperationEdit:
			name = "EditDevice"
		}
		needs = append(needs, need{on, "VirtualMachine.Config." + name})
	}
	return needs
}

func fileOfDisk(disk *types.VirtualDisk) string {
	if backing, ok := disk.Backing.(types.BaseVirtualDeviceFileBackingInfo); ok {
		return backing.GetVirtualDeviceFileBackingInfo().FileName
	}
	return ""
}

// storeNeeds asks for a privilege on the datastores of files.
func (l *lab) storeNeeds(privilege string, files ...string) []need {
	var needs []need
	for _, file := range files {
		var p object.DatastorePath
		if !p.FromString(file) {
			continue
		}
		for _, entity := range l.registry.All("Datastore") {
			if store, ok := entity.(*simulator.Datastore); ok && store.Name == p.Datastore {
				needs = append(needs, need{store.Self, privilege})
			}
		}
	}
	return needs
}

func (l *lab) fileNeeds(body any) []need {
	const manage = "Datastore.FileManagement"
	switch req := body.(type) {
	case *types.SearchDatastore_Task:
		return l.storeNeeds("Datastore.Browse", req.DatastorePath)
	case *types.SearchDatastoreSubFolders_Task:
		return l.storeNeeds("Datastore.Browse", req.DatastorePath)
	case *types.MakeDirectory:
		return l.storeNeeds(manage, req.Name)
	case *types.MoveDatastoreFile_Task:
		return l.storeNeeds(manage, req.SourceName, req.DestinationName)
	case *types.CopyDatastoreFile_Task:
		return l.storeNeeds(manage, req.SourceName, req.DestinationName)
	case *types.DeleteDatastoreFile_Task:
		return l.storeNeeds(manage, req.Name)
	case *types.CreateVirtualDisk_Task:
		return l.storeNeeds(manage, req.Name)
	case *types.CopyVirtualDisk_Task:
		return l.storeNeeds(manage, req.SourceName, req.DestName)
	case *types.MoveVirtualDisk_Task:
		return l.storeNeeds(manage, req.SourceName, req.DestName)
	case *types.DeleteVirtualDisk_Task:
		return l.storeNeeds(manage, req.Name)
	case *types.ExtendVirtualDisk_Task:
		return l.storeNeeds(manage, req.Name)
	}
	return nil
}

func guestNeeds(body any) []need {
	const prefix = "VirtualMachine.GuestOperations."
	switch req := body.(type) {
	case *types.StartProgramInGuest:
		return []need{{req.Vm, prefix + "Execute"}}
	case *types.TerminateProcessInGuest:
		return []need{{req.Vm, prefix + "Execute"}}
	case *types.ListProcessesInGuest:
		return []need{{req.Vm, prefix + "Query"}}
	case *types.ValidateCredentialsInGuest:
		return []need{{req.Vm, prefix + "Query"}}
	case *types.InitiateFileTransferFromGuest:
		return []need{{req.Vm, prefix + "Query"}}
	case *types.InitiateFileTransferToGuest:
		return []need{{req.Vm, prefix + "Modify"}}
	case *types.MakeDirectoryInGuest:
		return []need{{req.Vm, prefix + "Modify"}}
	case *types.CreateTemporaryDirectoryInGuest:
		return []need{{req.Vm, prefix + "Modify"}}
	case *types.DeleteFileInGuest:
		return []need{{req.Vm, prefix + "Modify"}}
	case *types.DeleteDirectoryInGuest:
		return []need{{req.Vm, prefix + "Modify"}}
	case *types.ListFilesInGuest:
		return []need{{req.Vm, prefix + "Query"}}
	}
	return nil
}

// isGranted tells whether a user has a privilege on an object. The nearest permission counts, on the
// object or upwards; those above count only if they propagate.
func (l *lab) isGranted(ctx *simulator.Context, user string, on ref, privilege string) bool {
	if l.accounts.isAdmin(user) || privilege == "System.Anonymous" {
		return true
	}
	manager, roles := l.authorization()
	if manager == nil {
		return false
	}
	for at, isSelf := &on, true; at != nil; isSelf = false {
		var own []types.Permission
		ctx.WithLock(manager, func() { own = permissionsOn(ctx, manager, *at) })
		for _, p := range own {
			if !p.Group && plainName(p.Principal) == plainName(user) && (isSelf || p.Propagate) {
				return roles[p.RoleId][privilege]
			}
		}
		at = l.above(*at)
	}
	return false
}

// above returns the object whose permissions an object inherits; nil at the root.
func (l *lab) above(r ref) *ref {
	entity, ok := l.registry.Get(r).(mo.Entity)
	if !ok {
		return nil
	}
	return entity.Entity().Parent
}

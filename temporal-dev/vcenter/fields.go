package main

import (
	"path/filepath"
	"slices"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// fields are the definitions of custom attributes as a session sees them: written at each change.
type fields struct {
	*simulator.CustomFieldsManager

	lab *lab
}

// fieldRecord is the definitions as they are written. A key is never given twice.
type fieldRecord struct {
	Fields []types.CustomFieldDef `json:"fields"`
	Next   int32                  `json:"next"`
}

func (l *lab) fieldFile() string { return filepath.Join(l.data, "fields.json") }

// AddCustomFieldDef writes the definitions.
func (m *fields) AddCustomFieldDef(ctx *simulator.Context, req *types.AddCustomFieldDef) soap.HasFault {
	reply := m.CustomFieldsManager.AddCustomFieldDef(ctx, req)
	if body := reply.(*methods.AddCustomFieldDefBody); body.Res != nil {
		m.lab.nextField = body.Res.Returnval.Key + 1
	}
	m.save()
	return reply
}

// RemoveCustomFieldDef writes the definitions, and the machines that had values.
func (m *fields) RemoveCustomFieldDef(ctx *simulator.Context, req *types.RemoveCustomFieldDef) soap.HasFault {
	reply := m.CustomFieldsManager.RemoveCustomFieldDef(ctx, req)
	m.save()
	for _, vm := range m.lab.registry.All("VirtualMachine") {
		m.lab.records.touch(vm.Reference())
	}
	return reply
}

// RenameCustomFieldDef writes the definitions.
func (m *fields) RenameCustomFieldDef(ctx *simulator.Context, req *types.RenameCustomFieldDef) soap.HasFault {
	reply := m.CustomFieldsManager.RenameCustomFieldDef(ctx, req)
	m.save()
	return reply
}

// SetField writes the machine.
func (m *fields) SetField(ctx *simulator.Context, req *types.SetField) soap.HasFault {
	reply := m.CustomFieldsManager.SetField(ctx, req)
	m.lab.saveNow(ctx, req.Entity)
	return reply
}

// SetCustomValue writes the machine.
func (m *machine) SetCustomValue(ctx *simulator.Context, req *types.SetCustomValue) soap.HasFault {
	reply := m.VirtualMachine.SetCustomValue(ctx, req)
	m.lab.saveNow(ctx, m.Self)
	return reply
}

// saveNow writes a machine that the simulator changed without telling anybody.
func (l *lab) saveNow(ctx *simulator.Context, vm ref) {
	if l.machine(vm) != nil {
		l.records.touch(vm)
		ctx.WithLock(&reference{Self: vm}, func() { l.records.save(vm) })
	}
}

func (m *fields) save() {
	writeRecord(m.lab.fieldFile(), fieldRecord{Fields: m.Field, Next: m.lab.nextField})
}

// restoreFields defines the custom attributes that an earlier run left, with the keys they had.
func (l *lab) restoreFields() error {
	var record fieldRecord
	if err := readRecordOf(l.fieldFile(), &record); err != nil {
		return err
	}
	manager, ctx := l.registry.CustomFieldsManager(), l.context()
	for range record.Next { // only the simulator can count its keys on
		def := types.AddCustomFieldDef{Name: "none", MoType: "none"}
		manager.AddCustomFieldDef(ctx, &def)
		manager.Field = nil
	}
	manager.Field, l.nextField = record.Fields, record.Next
	for _, def := range record.Fields {
		for _, object := range l.registry.All(def.ManagedObjectType) {
			offer(object, def)
		}
	}
	return nil
}

// offer makes a custom attribute one that an object can have.
func offer(object mo.Entity, def types.CustomFieldDef) {
	entity := object.Entity()
	isThere := slices.ContainsFunc(entity.AvailableField, func(d types.CustomFieldDef) bool { return d.Key == def.Key })
	if !isThere {
		entity.AvailableField = append(entity.AvailableField, def)
	}
}

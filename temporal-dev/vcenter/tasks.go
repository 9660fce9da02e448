package main

import (
	"reflect"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

type (
	anyType = types.AnyType
	fault   = types.BaseMethodFault
)

// task runs f as a task of the object and returns its reference. What f changed of the machine is on
// disk before the task ends.
func (l *lab) task(ctx *simulator.Context, on ref, name string, f func() (anyType, fault)) ref {
	run := func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
		defer l.records.save(on)
		return f()
	}
	return simulator.CreateTask(on, name, run).Run(ctx)
}

// inner waits for a task that the simulator started on our behalf, and removes it from sight.
func (l *lab) inner(ctx *simulator.Context, reply soap.HasFault) (anyType, fault) {
	if failed := reply.Fault(); failed != nil {
		if f, ok := failed.VimFault().(types.BaseMethodFault); ok {
			return nil, f
		}
		return nil, &types.SystemError{Reason: failed.String}
	}
	response := reflect.ValueOf(reply).Elem().FieldByName("Res").Elem()
	r := response.FieldByName("Returnval").Interface().(ref)
	task := l.registry.Get(r).(*simulator.Task)
	task.Wait()
	if entity := l.machine(*task.Info.Entity); entity != nil {
		simulator.RemoveReference(&entity.RecentTask, r)
	}
	l.registry.Remove(l.context(), r)
	if task.Info.Error != nil {
		return nil, task.Info.Error.Fault
	}
	return task.Info.Result, nil
}

// fileFault names a file in a fault of the given kind.
func fileLocked(name string) fault {
	return &types.FileLocked{FileFault: types.FileFault{File: name}}
}

func systemError(err error) fault {
	return &types.SystemError{Reason: err.Error()}
}

// soapFault is the answer of a call that failed.
func soapFault(f fault) *soap.Fault {
	return simulator.Fault("", f)
}

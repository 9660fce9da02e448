package main

import (
	"bytes"
	"fmt"
	"log"
	"reflect"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// The simulator asserts what it is given, and panics when that is not so: in a task, which would end the
// process, or in a call, which would leave the lock of its object with nobody. Here both become faults.

// guardTask makes what would end the process end the task alone.
func guardTask(task *simulator.Task) {
	execute := task.Execute
	if execute == nil {
		return
	}
	task.Execute = func(t *simulator.Task) (result types.AnyType, failed types.BaseMethodFault) {
		defer func() {
			if reason := recover(); reason != nil {
				result, failed = nil, mishap(t.Info.Name+" of "+t.Info.EntityName, reason)
			}
		}()
		return execute(t)
	}
}

// mishap logs a panic and returns it as a fault.
func mishap(what string, reason any) fault {
	log.Printf("%s: %v\n%s", what, reason, debug.Stack())
	return &types.SystemError{Reason: fmt.Sprint(reason)}
}

// holder is who holds the lock of a called object while its method runs.
type holder struct {
	ctx *simulator.Context
	on  ref
}

// guardCall runs a call of the API; a panic becomes its answer. dispatch has noted the lock's holder.
func (l *lab) guardCall(a *answer, do func()) {
	me := goroutine()
	l.holders.Store(me, holder{})
	defer l.holders.Delete(me)
	defer func() {
		reason := recover()
		if reason == nil {
			return
		}
		if held, _ := l.holders.Load(me); held.(holder).ctx != nil {
			l.letGo(held.(holder))
		}
		f := mishap(a.method, reason).(*types.SystemError)
		a.header, a.status = map[string][]string{}, 0
		a.body.Reset()
		writeFault(a, &faultRule{Fault: "SystemError", Message: f.Reason})
	}()
	do()
}

// noteHolder remembers who is about to take the lock of a called object. Calls that the simulator makes of
// itself within another, or for a transfer, are none of ours.
func (l *lab) noteHolder(ctx *simulator.Context, on ref) {
	me := goroutine()
	if held, isGuarded := l.holders.Load(me); isGuarded && held.(holder).ctx == nil {
		l.holders.Store(me, holder{ctx: ctx, on: on})
	}
}

// letGo releases the lock that a broken-off call holds, if it does.
func (l *lab) letGo(held holder) {
	defer func() { _ = recover() }()                                       // the second release complains when the call had not come so far
	release := l.registry.AcquireLock(held.ctx, &reference{Self: held.on}) // once more, as its holder
	release()
	release()
}

// goroutine names the running goroutine; nothing else connects a call with the context that the
// simulator makes for it.
func goroutine() string {
	var text [64]byte
	fields := bytes.Fields(text[:runtime.Stack(text[:], false)])
	return string(fields[1])
}

// strangerFault tells which object a task is asked to work with is not there; nil when all are. A real
// vCenter refuses such a call before it begins.
func (l *lab) strangerFault(method *simulator.Method) fault {
	if !strings.HasSuffix(method.Name, "_Task") {
		return nil
	}
	if r := l.stranger(reflect.ValueOf(method.Body)); r != nil && *r != method.This {
		return &types.ManagedObjectNotFound{Obj: *r}
	}
	return nil
}

var refType = reflect.TypeOf(ref{})

// stranger returns the first reference in a value that stands for nothing; nil when there is none.
func (l *lab) stranger(value reflect.Value) *ref {
	switch value.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !value.IsNil() {
			return l.stranger(value.Elem())
		}
	case reflect.Slice:
		for i := range value.Len() {
			if r := l.stranger(value.Index(i)); r != nil {
				return r
			}
		}
	case reflect.Struct:
		if value.Type() == refType {
			if r := value.Interface().(ref); r.Value != "" && l.registry.Get(r) == nil {
				return &r
			}
			return nil
		}
		for i := range value.NumField() {
			if r := l.stranger(value.Field(i)); r != nil {
				return r
			}
		}
	}
	return nil
}

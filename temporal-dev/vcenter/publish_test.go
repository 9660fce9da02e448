package main

import (
	"errors"
	"testing"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

func TestATaskIsPublishedOnlyUnderTheLockOfItsMachine(t *testing.T) {
	model := simulator.VPX()
	if err := model.Create(); err != nil {
		t.Fatal(err)
	}
	defer model.Remove()
	l := &lab{model: model, service: model.Service, registry: model.Map()}
	vm := l.registry.Any("VirtualMachine").Reference()
	task := &simulator.Task{}
	task.Info.Entity = &vm

	release := l.registry.AcquireLock(l.context(), &reference{Self: vm})
	published := make(chan struct{})
	go func() {
		l.publish(task)
		close(published)
	}()
	select {
	case <-published:
		t.Error("published while somebody else works on the machine")
	case <-time.After(200 * time.Millisecond):
	}
	release()
	<-published
	if l.registry.Get(task.Self) == nil {
		t.Error("not published")
	}
}

func TestATaskThatPanicsEndsInAFaultWithTheReason(t *testing.T) {
	task := &simulator.Task{Execute: func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
		panic(errors.New("the pool is no pool"))
	}}
	guardTask(task)
	_, failed := task.Execute(task)
	if f, ok := failed.(*types.SystemError); !ok || f.Reason != "the pool is no pool" {
		t.Errorf("ended in %v", failed)
	}
}

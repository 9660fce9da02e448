package main

import "github.com/vmware/govmomi/simulator"

func (l *lab) saveVMX(vm *simulator.VirtualMachine) {}

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

const guestPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// guests plays the guests of all machines: each is a folder, its programs are processes of this
// computer that run in it.
type guests struct {
	lab    *lab
	secret string

	mu        sync.Mutex
	processes map[int64]*guestProcess
	transfers map[string]guestTransfer
}

// guestProcess is a program that was started, running or ended.
type guestProcess struct {
	vm      ref
	info    types.GuestProcessInfo
	command *exec.Cmd
}

func newGuests(l *lab, o options) *guests {
	return &guests{
		lab: l, secret: o.guestSecret, processes: map[int64]*guestProcess{}, transfers: map[string]guestTransfer{},
	}
}

type guestProcesses struct {
	mo.GuestProcessManager

	guests *guests
}

type guestFiles struct {
	mo.GuestFileManager

	guests *guests
}

type guestAuth struct {
	mo.GuestAuthManager

	guests *guests
}

// register takes the place of the simulator's managers, which know only containers.
func (g *guests) register() {
	content := g.lab.registry.Get(serviceInstance).(contentHolder).ServiceContent()
	manager := g.lab.registry.Get(*content.GuestOperationsManager).(*simulator.GuestOperationsManager)
	processes, files, auth := &guestProcesses{guests: g}, &guestFiles{guests: g}, &guestAuth{guests: g}
	processes.Self, files.Self = *manager.ProcessManager, *manager.FileManager
	auth.Self = ref{Type: "GuestAuthManager", Value: "guestOperationsAuthManager"}
	manager.AuthManager = &auth.Self
	g.lab.registry.Put(processes)
	g.lab.registry.Put(files)
	g.lab.registry.Put(auth)
}

// enter checks that the guest can be reached and knows the account; it returns the guest's folder.
func (g *guests) enter(r ref, auth types.BaseGuestAuthentication) (string, fault) {
	vm := g.lab.machine(r)
	if vm == nil {
		return "", &types.ManagedObjectNotFound{Obj: r}
	}
	if state := vm.Runtime.PowerState; state != types.VirtualMachinePowerStatePoweredOn {
		return "", &types.InvalidPowerState{
			RequestedState: types.VirtualMachinePowerStatePoweredOn, ExistingState: state,
		}
	}
	if vm.Guest.ToolsRunningStatus != string(types.VirtualMachineToolsRunningStatusGuestToolsRunning) {
		return "", &types.GuestOperationsUnavailable{}
	}
	account, ok := auth.(*types.NamePasswordAuthentication)
	if !ok || account.Username == "" || account.Password != g.secret {
		return "", &types.InvalidGuestLogin{}
	}
	folder := g.folder(vm)
	return folder, asFault(os.MkdirAll(folder, 0o700))
}

// folder is the root of a guest. It follows the identity of the machine, not its name.
func (g *guests) folder(vm *simulator.VirtualMachine) string {
	return filepath.Join(g.lab.data, "guests", vm.Config.InstanceUuid)
}

// inside turns a path of the guest into one of this computer.
func inside(folder, path string) string {
	return filepath.Join(folder, filepath.Clean("/"+strings.ReplaceAll(path, `\`, "/")))
}

// ValidateCredentialsInGuest checks an account: any name with the guests' password.
func (a *guestAuth) ValidateCredentialsInGuest(
	_ *simulator.Context, req *types.ValidateCredentialsInGuest,
) soap.HasFault {
	body := new(methods.ValidateCredentialsInGuestBody)
	if _, f := a.guests.enter(req.Vm, req.Auth); f != nil {
		body.Fault_ = soapFault(f)
		return body
	}
	body.Res = new(types.ValidateCredentialsInGuestResponse)
	return body
}

// StartProgramInGuest starts a program in the guest's folder. A path that exists in the guest is
// taken from there, any other from this computer. GUEST_ROOT names the folder.
func (p *guestProcesses) StartProgramInGuest(
	_ *simulator.Context, req *types.StartProgramInGuest,
) soap.HasFault {
	body := new(methods.StartProgramInGuestBody)
	folder, f := p.guests.enter(req.Vm, req.Auth)
	spec, ok := req.Spec.(*types.GuestProgramSpec)
	if f == nil && !ok {
		f = &types.InvalidArgument{InvalidProperty: "spec"}
	}
	if f != nil {
		body.Fault_ = soapFault(f)
		return body
	}
	owner := req.Auth.(*types.NamePasswordAuthentication).Username
	pid, f := p.guests.start(req.Vm, folder, owner, spec)
	if f != nil {
		body.Fault_ = soapFault(f)
		return body
	}
	body.Res = &types.StartProgramInGuestResponse{Returnval: pid}
	return body
}

func (g *guests) start(vm ref, folder, owner string, spec *types.GuestProgramSpec) (int64, fault) {
	program := spec.ProgramPath
	if _, err := os.Stat(inside(folder, program)); err == nil {
		program = inside(folder, program)
	}
	if _, err := exec.LookPath(program); err != nil {
		return 0, &types.FileNotFound{FileFault: types.FileFault{File: spec.ProgramPath}}
	}
	command := exec.Command("/bin/sh", "-c", `exec "$0" `+spec.Arguments, program)
	command.Dir = inside(folder, spec.WorkingDirectory)
	command.Env = append([]string{"PATH=" + guestPath, "HOME=" + folder, "GUEST_ROOT=" + folder}, spec.EnvVariables...)
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := command.Start(); err != nil {
		return 0, systemError(err)
	}
	process := &guestProcess{vm: vm, command: command, info: types.GuestProcessInfo{
		Name: filepath.Base(spec.ProgramPath), Pid: int64(command.Process.Pid), Owner: owner,
		CmdLine: strings.TrimSpace(spec.ProgramPath + " " + spec.Arguments), StartTime: time.Now(),
	}}
	g.mu.Lock()
	g.processes[process.info.Pid] = process
	g.mu.Unlock()
	go g.await(process)
	return process.info.Pid, nil
}

// await records how a program ended.
func (g *guests) await(process *guestProcess) {
	_ = process.command.Wait() // the state says it all
	g.mu.Lock()
	defer g.mu.Unlock()
	now, code := time.Now(), int32(process.command.ProcessState.ExitCode())
	process.info.EndTime, process.info.ExitCode = &now, code
}

// ListProcessesInGuest lists the programs that were started here, ended ones with their exit code.
func (p *guestProcesses) ListProcessesInGuest(
	_ *simulator.Context, req *types.ListProcessesInGuest,
) soap.HasFault {
	body := new(methods.ListProcessesInGuestBody)
	if _, f := p.guests.enter(req.Vm, req.Auth); f != nil {
		body.Fault_ = soapFault(f)
		return body
	}
	body.Res = new(types.ListProcessesInGuestResponse)
	p.guests.mu.Lock()
	defer p.guests.mu.Unlock()
	for _, process := range p.guests.processes {
		if process.vm == req.Vm && (len(req.Pids) == 0 || contains(req.Pids, process.info.Pid)) {
			body.Res.Returnval = append(body.Res.Returnval, process.info)
		}
	}
	sort.Slice(body.Res.Returnval, func(i, j int) bool { return body.Res.Returnval[i].Pid < body.Res.Returnval[j].Pid })
	return body
}

func contains(pids []int64, pid int64) bool {
	for _, p := range pids {
		if p == pid {
			return true
		}
	}
	return false
}

// TerminateProcessInGuest kills a program and what it started.
func (p *guestProcesses) TerminateProcessInGuest(
	_ *simulator.Context, req *types.TerminateProcessInGuest,
) soap.HasFault {
	body := new(methods.TerminateProcessInGuestBody)
	_, f := p.guests.enter(req.Vm, req.Auth)
	if f == nil && !p.guests.kill(req.Vm, req.Pid) {
		f = &types.GuestProcessNotFound{Pid: req.Pid}
	}
	if f != nil {
		body.Fault_ = soapFault(f)
		return body
	}
	body.Res = new(types.TerminateProcessInGuestResponse)
	return body
}

// kill ends a running program of a machine; false when there is none of this number.
func (g *guests) kill(vm ref, pid int64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	process := g.processes[pid]
	if process == nil || process.vm != vm || process.info.EndTime != nil {
		return false
	}
	return syscall.Kill(-int(pid), syscall.SIGKILL) == nil
}

// killAll ends every program; without a machine those of all.
func (g *guests) killAll(vm ref) {
	g.mu.Lock()
	var running []*guestProcess
	for _, process := range g.processes {
		if process.info.EndTime == nil && (vm == ref{} || process.vm == vm) {
			running = append(running, process)
		}
	}
	g.mu.Unlock()
	for _, process := range running {
		g.kill(process.vm, process.info.Pid)
	}
}

// ReadEnvironmentVariableInGuest tells what programs find in their environment.
func (p *guestProcesses) ReadEnvironmentVariableInGuest(
	_ *simulator.Context, req *types.ReadEnvironmentVariableInGuest,
) soap.HasFault {
	body := new(methods.ReadEnvironmentVariableInGuestBody)
	folder, f := p.guests.enter(req.Vm, req.Auth)
	if f != nil {
		body.Fault_ = soapFault(f)
		return body
	}
	all := []string{"PATH=" + guestPath, "HOME=" + folder, "GUEST_ROOT=" + folder}
	body.Res = new(types.ReadEnvironmentVariableInGuestResponse)
	for _, line := range all {
		name, _, _ := strings.Cut(line, "=")
		if len(req.Names) == 0 || strings.Contains(" "+strings.Join(req.Names, " ")+" ", " "+name+" ") {
			body.Res.Returnval = append(body.Res.Returnval, line)
		}
	}
	return body
}

package main

import (
	"strings"
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// accounts are the users, and what each may do.
type accounts struct {
	mu      sync.Mutex
	admin   string
	users   map[string]string // password, by plain name
	noTools map[ref]bool      // machines whose guest has no tools
}

func newAccounts(o options) *accounts {
	admin := plainName(o.user)
	return &accounts{admin: admin, users: map[string]string{admin: o.password}, noTools: map[ref]bool{}}
}

// plainName drops the domain: user@vsphere.local and VSPHERE.LOCAL\user are the same account.
func plainName(user string) string {
	if _, name, found := strings.Cut(user, `\`); found {
		user = name
	}
	name, _, _ := strings.Cut(user, "@")
	return strings.ToLower(name)
}

func (a *accounts) isValid(login *types.Login) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	password, known := a.users[plainName(login.UserName)]
	return known && password == login.Password
}

func (a *accounts) withoutTools(vm ref) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.noTools[vm]
}

// check is asked before every call.
func (a *accounts) check(l *lab, ctx *simulator.Context, method *simulator.Method) fault {
	if ctx.Session == nil {
		return refuseStranger(method)
	}
	user := ctx.Session.UserName
	if user == "" || a.isAdmin(user) { // without a name: the simulator asks itself
		return nil
	}
	for _, n := range l.needsOf(method) {
		if !l.isGranted(ctx, user, n.on, n.privilege) {
			return &types.NoPermission{Object: &n.on, PrivilegeId: n.privilege}
		}
	}
	return nil
}

func (a *accounts) isAdmin(user string) bool { return plainName(user) == a.admin }

// refuseStranger answers property reads without a session as a real vCenter does. The simulator
// would answer them with empty objects, which hides that a session has ended.
func refuseStranger(method *simulator.Method) fault {
	retrieve, ok := method.Body.(*types.RetrievePropertiesEx)
	if !ok {
		return nil
	}
	for _, spec := range retrieve.SpecSet {
		for _, object := range spec.ObjectSet {
			switch object.Obj.Type {
			case "ServiceInstance", "SessionManager", "PropertyCollector":
			default:
				return &types.NotAuthenticated{NoPermission: types.NoPermission{
					Object: &object.Obj, PrivilegeId: "System.View",
				}}
			}
		}
	}
	return nil
}

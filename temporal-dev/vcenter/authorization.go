package main

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// authorization is the AuthorizationManager that answers truthfully.
type authorization struct {
	*simulator.AuthorizationManager

	lab *lab
}

// AddAuthorizationRole returns the number of the new role.
func (m *authorization) AddAuthorizationRole(
	_ *simulator.Context, req *types.AddAuthorizationRole,
) soap.HasFault {
	reply := m.AuthorizationManager.AddAuthorizationRole(req)
	body, ok := reply.(*methods.AddAuthorizationRoleBody)
	if !ok || body.Res == nil {
		return reply
	}
	for i := range m.RoleList {
		role := &m.RoleList[i]
		if role.Name == req.Name {
			role.RoleId = nextRole(m.AuthorizationManager, role.Name)
			body.Res.Returnval = role.RoleId
		}
	}
	return body
}

// firstRole keeps numbers of new roles away from 0, which clients take for none.
const firstRole = 1001

// SetEntityPermissions adds rules, or changes those of the same principals.
func (m *authorization) SetEntityPermissions(
	ctx *simulator.Context, req *types.SetEntityPermissions,
) soap.HasFault {
	merged := []types.Permission{}
	for _, old := range permissionsOn(ctx, m.AuthorizationManager, req.Entity) {
		if !isAbout(req.Permission, old) {
			merged = append(merged, old)
		}
	}
	for _, p := range req.Permission {
		p.Entity = &req.Entity
		merged = append(merged, p)
	}
	req.Permission = merged
	return m.AuthorizationManager.SetEntityPermissions(req)
}

func isAbout(rules []types.Permission, old types.Permission) bool {
	for _, p := range rules {
		if p.Group == old.Group && p.Principal == old.Principal {
			return true
		}
	}
	return false
}

// HasPrivilegeOnEntities answers for the account of a session.
func (m *authorization) HasPrivilegeOnEntities(
	ctx *simulator.Context, req *types.HasPrivilegeOnEntities,
) soap.HasFault {
	return &methods.HasPrivilegeOnEntitiesBody{Res: &types.HasPrivilegeOnEntitiesResponse{
		Returnval: m.answer(ctx, m.userOf(req.SessionId), req.Entity, req.PrivId),
	}}
}

// HasPrivilegeOnEntity is HasPrivilegeOnEntities for one object.
func (m *authorization) HasPrivilegeOnEntity(
	ctx *simulator.Context, req *types.HasPrivilegeOnEntity,
) soap.HasFault {
	user, granted := m.userOf(req.SessionId), []bool{}
	for _, id := range req.PrivId {
		granted = append(granted, m.lab.isGranted(ctx, user, req.Entity, id))
	}
	return &methods.HasPrivilegeOnEntityBody{Res: &types.HasPrivilegeOnEntityResponse{Returnval: granted}}
}

// HasUserPrivilegeOnEntities answers for a named account.
func (m *authorization) HasUserPrivilegeOnEntities(
	ctx *simulator.Context, req *types.HasUserPrivilegeOnEntities,
) soap.HasFault {
	return &methods.HasUserPrivilegeOnEntitiesBody{Res: &types.HasUserPrivilegeOnEntitiesResponse{
		Returnval: m.answer(ctx, req.UserName, req.Entities, req.PrivId),
	}}
}

// FetchUserPrivilegeOnEntities lists what a named account may do.
func (m *authorization) FetchUserPrivilegeOnEntities(
	ctx *simulator.Context, req *types.FetchUserPrivilegeOnEntities,
) soap.HasFault {
	results := []types.UserPrivilegeResult{}
	for _, entity := range req.Entities {
		result := types.UserPrivilegeResult{Entity: entity}
		for id := range m.known() {
			if m.lab.isGranted(ctx, req.UserName, entity, id) {
				result.Privileges = append(result.Privileges, id)
			}
		}
		results = append(results, result)
	}
	return &methods.FetchUserPrivilegeOnEntitiesBody{
		Res: &types.FetchUserPrivilegeOnEntitiesResponse{Returnval: results},
	}
}

// known returns every privilege there is: those of the administrator's role.
func (m *authorization) known() map[string]bool {
	_, roles := m.lab.authorization()
	return roles[-1]
}

func (m *authorization) answer(
	ctx *simulator.Context, user string, entities []ref, ids []string,
) []types.EntityPrivilege {
	answers := []types.EntityPrivilege{}
	for _, entity := range entities {
		answer := types.EntityPrivilege{Entity: entity}
		for _, id := range ids {
			answer.PrivAvailability = append(answer.PrivAvailability, types.PrivilegeAvailability{
				PrivId: id, IsGranted: m.lab.isGranted(ctx, user, entity, id),
			})
		}
		answers = append(answers, answer)
	}
	return answers
}

// userOf returns the account of a session; empty for one that is not known.
func (m *authorization) userOf(session string) string {
	for _, s := range m.lab.sessions() {
		if s.Key == session {
			return s.UserName
		}
	}
	return ""
}

// authorization returns the manager and the privileges of every role.
func (l *lab) authorization() (*simulator.AuthorizationManager, map[int32]map[string]bool) {
	content := l.registry.Get(serviceInstance).(contentHolder).ServiceContent()
	manager, _ := l.registry.Get(*content.AuthorizationManager).(*simulator.AuthorizationManager)
	roles := map[int32]map[string]bool{}
	if manager == nil {
		return nil, roles
	}
	for _, role := range manager.RoleList {
		roles[role.RoleId] = map[string]bool{}
		for _, id := range role.Privilege {
			roles[role.RoleId][id] = true
		}
	}
	return manager, roles
}

// permissionsOn lists the rules on an object itself. The caller holds the manager's lock.
func permissionsOn(ctx *simulator.Context, m *simulator.AuthorizationManager, on ref) []types.Permission {
	if _, isEntity := ctx.Map.Get(on).(mo.Entity); !isEntity {
		return nil
	}
	reply := m.RetrieveEntityPermissions(ctx, &types.RetrieveEntityPermissions{Entity: on})
	return reply.(*methods.RetrieveEntityPermissionsBody).Res.Returnval
}

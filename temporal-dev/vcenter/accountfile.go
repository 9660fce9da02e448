package main

import (
	"bytes"
	"errors"
	"log"
	"os"
	"path/filepath"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
)

// accountRecord is who there is and what each may do, as it is written.
type accountRecord struct {
	Users       map[string]string         `json:"users"`
	Roles       []types.AuthorizationRole `json:"roles"`
	Permissions []types.Permission        `json:"permissions"`
}

// changesAccounts names the methods after which the accounts are written.
var changesAccounts = map[string]bool{
	"AddAuthorizationRole": true, "UpdateAuthorizationRole": true, "RemoveAuthorizationRole": true,
	"SetEntityPermissions": true, "RemoveEntityPermission": true,
}

func (l *lab) accountFile() string { return filepath.Join(l.data, "accounts.json") }

// saveAccounts writes accounts, roles and permissions to disk.
func (l *lab) saveAccounts() {
	manager, _ := l.authorization()
	record := accountRecord{Users: map[string]string{}}
	ctx := l.context()
	ctx.WithLock(manager, func() {
		record.Roles = append(record.Roles, manager.RoleList...)
		all := manager.RetrieveAllPermissions(&types.RetrieveAllPermissions{})
		record.Permissions = all.(*methods.RetrieveAllPermissionsBody).Res.Returnval
	})
	l.accounts.mu.Lock()
	defer l.accounts.mu.Unlock()
	for name, password := range l.accounts.users {
		if name != l.accounts.admin {
			record.Users[name] = password
		}
	}
	var text bytes.Buffer
	err := types.NewJSONEncoder(&text).Encode(record)
	if err == nil {
		err = replaceFile(l.accountFile(), func(out *os.File) error {
			_, err := out.Write(text.Bytes())
			return err
		})
	}
	if err != nil {
		log.Printf("accounts: %s", err)
	}
}

// loadAccounts reads what an earlier run left. Permissions on objects that are gone are dropped.
func (l *lab) loadAccounts() error {
	in, err := os.Open(l.accountFile())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer in.Close()
	var record accountRecord
	if err := types.NewJSONDecoder(in).Decode(&record); err != nil {
		return err
	}
	for name, password := range record.Users {
		l.accounts.users[name] = password
	}
	manager, _ := l.authorization()
	manager.RoleList = record.Roles
	rules := map[ref][]types.Permission{}
	for _, p := range record.Permissions {
		if p.Entity != nil && l.registry.Get(*p.Entity) != nil {
			rules[*p.Entity] = append(rules[*p.Entity], p)
		}
	}
	for entity, permissions := range rules {
		manager.SetEntityPermissions(&types.SetEntityPermissions{Entity: entity, Permission: permissions})
	}
	return nil
}

// nextRole returns a number that no role has; 0 is kept for none.
func nextRole(manager *simulator.AuthorizationManager, except string) int32 {
	next := int32(firstRole)
	for _, role := range manager.RoleList {
		if role.Name != except && role.RoleId >= next {
			next = role.RoleId + 1
		}
	}
	return next
}

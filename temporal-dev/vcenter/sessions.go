package main

import (
	"net/http"
	"reflect"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

var serviceInstance = ref{Type: "ServiceInstance", Value: "ServiceInstance"}

type contentHolder interface {
	ServiceContent() types.ServiceContent
}

func newValue(kind reflect.Type) any { return reflect.New(kind).Interface() }

// sessions lists who is logged in.
func (l *lab) sessions() []types.UserSession {
	manager := l.registry.SessionManager()
	session := &simulator.Session{Registry: simulator.NewRegistry(), Map: l.registry}
	return session.Get(manager.Self).(*simulator.SessionManager).SessionList
}

// endSessions ends the named sessions, or all without a name. Their next call is not authenticated.
func (l *lab) endSessions(keys ...string) int {
	manager := l.registry.SessionManager()
	ctx := l.context()
	ctx.Session = &simulator.Session{Registry: simulator.NewRegistry(), Map: l.registry}
	if len(keys) == 0 {
		l.web.mu.Lock()
		l.web.tokens = map[string]string{}
		l.web.mu.Unlock()
		for _, session := range l.sessions() {
			keys = append(keys, session.Key)
		}
	}
	ended := 0
	for _, key := range keys {
		reply := manager.TerminateSession(ctx, &types.TerminateSession{SessionId: []string{key}})
		if reply.Fault() == nil {
			ended++
		}
	}
	return ended
}

// requester returns the account whose live session or password a request carries; empty: nobody's.
func (l *lab) requester(r *http.Request) string {
	if user, password, ok := r.BasicAuth(); ok {
		if l.accounts.isValid(&types.Login{UserName: user, Password: password}) {
			return user
		}
		return ""
	}
	cookie, err := r.Cookie(soap.SessionCookieName)
	if err != nil {
		return ""
	}
	key := strings.Trim(cookie.Value, `"`)
	for _, session := range l.sessions() {
		if session.Key == key {
			return session.UserName
		}
	}
	return ""
}

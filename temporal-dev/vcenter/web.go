package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/vim25/soap"
)

// web stands between the clients and the simulator. It counts calls, ends idle sessions, applies
// the fault rules, guards the datastores and mends answers that strict clients cannot read.
type web struct {
	lab   *lab
	inner http.Handler
	idle  time.Duration
	book  *faultBook

	mu       sync.Mutex
	lastSeen map[string]time.Time // by session key
	calls    map[string]int
	conns    map[net.Conn]struct{}
	tokens   map[string]string // users of the live sessions of the REST API
}

func newWeb(l *lab, o options) *web {
	return &web{
		lab: l, idle: o.idle, book: newFaultBook(), lastSeen: map[string]time.Time{}, calls: map[string]int{},
		conns: map[net.Conn]struct{}{}, tokens: map[string]string{},
	}
}

// mount puts the middleware in front of a server's handler.
func (w *web) mount(server *http.Server) {
	w.inner, server.Handler = server.Handler, w
	tell := server.ConnState
	server.ConnState = func(conn net.Conn, state http.ConnState) {
		w.mu.Lock()
		if state == http.StateClosed || state == http.StateHijacked {
			delete(w.conns, conn)
		} else {
			w.conns[conn] = struct{}{}
		}
		w.mu.Unlock()
		if tell != nil {
			tell(conn, state)
		}
	}
}

// dropAll closes every connection of every client.
func (w *web) dropAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for conn := range w.conns {
		_ = conn.Close()
	}
}

// call is one call of the SOAP API.
type call struct {
	method string
	this   ref
	entity ref // the machine it is about: itself, or the one of a snapshot
}

var callPattern = regexp.MustCompile(
	`Body[^>]*>\s*<(?:[\w-]+:)?(\w+)[^>]*>\s*<(?:[\w-]+:)?_this[^>]*?type="(\w+)"[^>]*>([^<]+)<`)

// guestPattern finds the machine in a call of a manager of guests.
var guestPattern = regexp.MustCompile(`<(?:[\w-]+:)?vm [^>]*>([^<]+)<`)

func (w *web) parse(body []byte) (call, bool) {
	m := callPattern.FindSubmatch(body)
	if m == nil {
		return call{}, false
	}
	c := call{method: string(m[1]), this: ref{Type: string(m[2]), Value: string(m[3])}}
	c.entity = c.this
	if s := w.lab.snapshot(c.this); s != nil {
		c.entity = s.Vm
	}
	if vm := guestPattern.FindSubmatch(body); vm != nil && strings.HasPrefix(c.this.Type, "Guest") {
		c.entity = ref{Type: "VirtualMachine", Value: string(vm[1])}
	}
	return c, true
}

// ServeHTTP satisfies http.Handler.
func (w *web) ServeHTTP(out http.ResponseWriter, r *http.Request) {
	w.endIfIdle(r)
	switch {
	case r.URL.Path == "/lab/disk":
		w.serveDisk(out, r)
	case strings.HasPrefix(r.URL.Path, "/sdk") && r.Method == http.MethodPost:
		w.serveSDK(out, r)
	case strings.HasPrefix(r.URL.Path, "/folder/"):
		w.serveFolder(out, r)
	case strings.HasPrefix(r.URL.Path, "/nfc/"):
		w.serveNFC(out, r)
	case r.URL.Path == "/guestFile":
		w.serveGuestFile(out, r)
	case r.URL.Path == "/api/session" || strings.HasPrefix(r.URL.Path, taggingRoot):
		w.serveREST(out, r)
	default:
		w.inner.ServeHTTP(out, r)
		if changesTags(r.Method, r.URL.Path, r.URL.Query().Get("~action")) {
			w.lab.saveTags()
		}
	}
}

func (w *web) serveSDK(out http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(out, err.Error(), http.StatusBadRequest)
		return
	}
	c, ok := w.parse(body)
	if !ok {
		w.pass("", r, body).send(out)
		return
	}
	w.count(counted(c.method, body))
	rule := w.book.match(w.lab, c)
	pass := func() *answer {
		if changesAccounts[c.method] {
			defer w.lab.saveAccounts()
		}
		return w.pass(c.method, r, body)
	}
	if rule == nil {
		pass().send(out)
		return
	}
	w.apply(rule, c, pass, out, r)
}

// answer is what the simulator wanted to send.
type answer struct {
	method string
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(status int)      { a.status = status }
func (a *answer) Write(b []byte) (int, error) { return a.body.Write(b) }

func (a *answer) send(out http.ResponseWriter) {
	for name, values := range a.header {
		out.Header()[name] = values
	}
	out.Header().Set("Content-Type", "text/xml; charset=utf-8")
	out.WriteHeader(a.status)
	_, _ = out.Write(mend(a.method, a.body.Bytes()))
}

// pass lets the simulator answer.
func (w *web) pass(method string, r *http.Request, body []byte) *answer {
	a := &answer{method: method, header: http.Header{}, status: http.StatusOK}
	inner := r.Clone(r.Context())
	inner.Body = io.NopCloser(bytes.NewReader(body))
	w.lab.guardCall(a, func() { w.inner.ServeHTTP(a, inner) })
	w.lab.away.conceal(&a.body)
	return a
}

var strangeEntity = regexp.MustCompile(`<entity type="(?:VirtualDiskManager|FileManager|OvfManager)">[^<]*</entity>`)

// mend turns answers that clients with types refuse into those of a real vCenter: a task about no
// managed entity names none, a single property that is unset is an empty answer, and an exit code of
// 0 is not left out.
func mend(method string, body []byte) []byte {
	if method == "ListProcessesInGuest" {
		return bytes.ReplaceAll(body, []byte("</endTime></returnval>"), []byte("</endTime><exitCode>0</exitCode></returnval>"))
	}
	if bytes.Contains(body, []byte("<entity type=")) {
		return strangeEntity.ReplaceAll(body, nil)
	}
	if bytes.Contains(body, []byte("<RetrievePropertiesExResponse")) && method == "Fetch" {
		return []byte(fmt.Sprintf(envelope, `<FetchResponse xmlns="urn:vim25"></FetchResponse>`))
	}
	return body
}

// taskPattern finds the tasks whose properties are asked for.
var taskPattern = regexp.MustCompile(`<(?:[\w-]+:)?obj [^>]*type="Task"`)

// counted is the name under which a call is counted: looking at a task is told apart from other reads.
func counted(method string, body []byte) string {
	if strings.HasPrefix(method, "RetrieveProperties") && taskPattern.Match(body) {
		return method + ":Task"
	}
	return method
}

func (w *web) count(method string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls[method]++
}

// endIfIdle ends the session of a request that comes too late.
func (w *web) endIfIdle(r *http.Request) {
	cookie, err := r.Cookie(soap.SessionCookieName)
	if err != nil {
		return
	}
	key := strings.Trim(cookie.Value, `"`)
	w.mu.Lock()
	last, known := w.lastSeen[key]
	w.lastSeen[key] = time.Now()
	w.mu.Unlock()
	if known && time.Since(last) > w.idle {
		w.lab.endSessions(key)
	}
}

// serveFolder serves the files of datastores to those who are logged in. Extents of children are
// refused: real ones are no plain bytes, and nobody may get used to reading them.
func (w *web) serveFolder(out http.ResponseWriter, r *http.Request) {
	user := w.lab.requester(r)
	if user == "" {
		out.Header().Set("WWW-Authenticate", `Basic realm="VMware HTTP server"`)
		http.Error(out, "login is required", http.StatusUnauthorized)
		return
	}
	privilege := "Datastore.FileManagement"
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		privilege = "Datastore.Browse"
	}
	for _, n := range w.lab.storeNeeds(privilege, "["+r.URL.Query().Get("dsName")+"] x") {
		if !w.lab.isGranted(w.lab.context(), user, n.on, n.privilege) {
			http.Error(out, "no permission: "+n.privilege, http.StatusForbidden)
			return
		}
	}
	if strings.HasSuffix(r.URL.Path, "-sesparse.vmdk") {
		http.Error(out, "the extent of a child is no flat file", http.StatusInternalServerError)
		return
	}
	c := call{method: "folder:" + r.Method}
	w.count(c.method)
	rule := w.book.match(w.lab, c)
	if rule == nil {
		w.inner.ServeHTTP(out, r)
		return
	}
	w.applyStream(rule, w.inner, out, r)
}

// hangUp closes the connection without an answer.
func hangUp(out http.ResponseWriter) {
	conn, err := takeOver(out)
	if err != nil {
		log.Printf("drop: %s", err)
		return
	}
	_ = conn.Close()
}

func takeOver(out http.ResponseWriter) (net.Conn, error) {
	hijacker, ok := out.(http.Hijacker)
	if !ok {
		return nil, errors.New("the connection cannot be taken over")
	}
	conn, _, err := hijacker.Hijack()
	return conn, err
}

// wait sleeps unless the client leaves.
func wait(ctx context.Context, pause time.Duration) {
	if pause <= 0 {
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(pause):
	}
}

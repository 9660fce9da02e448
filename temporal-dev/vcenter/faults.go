package main

import (
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// faultRule says what goes wrong, and when. A rule counts the calls it matches; it acts from call
// `at` (1 is the first) on, `times` times (0: for ever).
type faultRule struct {
	ID      int    `json:"id"`
	Method  string `json:"method"`            // name of the API, folder:GET, nfc:GET, nfc:PUT, or a pattern such as Create*
	Machine string `json:"machine,omitempty"` // name or reference; empty: whatever is called
	At      int    `json:"at"`
	Times   int    `json:"times"`
	// Action is fail, fail-task, delay, drop, drop-after, hang or hang-after. fail answers with the
	// fault, fail-task with a task that ends in it; drop closes the connection before the call is
	// done, drop-after when it is; hang answers with a task that never ends and does nothing,
	// hang-after does the work and answers with such a task. drop of a file transfer happens
	// after `after_bytes`.
	Action     string `json:"action"`
	Fault      string `json:"fault,omitempty"`   // class, such as FileLocked
	Message    string `json:"message,omitempty"` // of the fault
	DelayMS    int    `json:"delay_ms,omitempty"`
	AfterBytes int64  `json:"after_bytes,omitempty"`

	Seen int `json:"seen"`
	Hit  int `json:"hit"`
}

var actions = map[string]bool{
	"fail": true, "fail-task": true, "delay": true, "drop": true, "drop-after": true, "hang": true, "hang-after": true,
}

// faultBook holds the rules.
type faultBook struct {
	mu    sync.Mutex
	last  int
	rules []*faultRule
}

func newFaultBook() *faultBook { return &faultBook{} }

// add checks a rule and gives it an id.
func (b *faultBook) add(rule faultRule) (faultRule, error) {
	if !actions[rule.Action] {
		return rule, fmt.Errorf("no such action: %q", rule.Action)
	}
	if strings.HasPrefix(rule.Action, "fail") {
		if _, err := newFault(rule.Fault); err != nil {
			return rule, err
		}
	}
	if _, err := path.Match(rule.Method, ""); err != nil || rule.Method == "" {
		return rule, fmt.Errorf("no such method: %q", rule.Method)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last++
	rule.ID, rule.At, rule.Seen, rule.Hit = b.last, max(rule.At, 1), 0, 0
	b.rules = append(b.rules, &rule)
	return rule, nil
}

// remove deletes a rule, or all of them with the id 0.
func (b *faultBook) remove(id int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	before := len(b.rules)
	var kept []*faultRule
	for _, rule := range b.rules {
		if id != 0 && rule.ID != id {
			kept = append(kept, rule)
		}
	}
	b.rules = kept
	return id == 0 || len(kept) < before
}

// list returns the rules with their counts.
func (b *faultBook) list() []faultRule {
	b.mu.Lock()
	defer b.mu.Unlock()
	rules := []faultRule{}
	for _, rule := range b.rules {
		rules = append(rules, *rule)
	}
	return rules
}

// match returns the first rule that acts on a call; every rule that fits counts it.
func (b *faultBook) match(l *lab, c call) *faultRule {
	b.mu.Lock()
	defer b.mu.Unlock()
	var acting *faultRule
	for _, rule := range b.rules {
		if fits, _ := path.Match(rule.Method, c.method); !fits || !l.isNamed(c.entity, rule.Machine) {
			continue
		}
		rule.Seen++
		if acting == nil && rule.Seen >= rule.At && (rule.Times == 0 || rule.Hit < rule.Times) {
			rule.Hit++
			acting = rule
		}
	}
	if acting == nil {
		return nil
	}
	found := *acting
	return &found
}

// isNamed tells whether a rule for this machine applies; a rule without a machine applies always.
func (l *lab) isNamed(r ref, name string) bool {
	if name == "" || r.Value == name {
		return true
	}
	vm := l.machine(r)
	return vm != nil && vm.Name == name
}

// apply acts on a call of the API. pass does the call.
func (w *web) apply(rule *faultRule, c call, pass func() *answer, out http.ResponseWriter, r *http.Request) {
	wait(r.Context(), time.Duration(rule.DelayMS)*time.Millisecond)
	switch rule.Action {
	case "delay":
		pass().send(out)
	case "drop":
		hangUp(out)
	case "drop-after":
		pass()
		hangUp(out)
	case "fail":
		writeFault(out, rule)
	case "fail-task":
		w.lab.answerWithTask(out, c, rule)
	case "hang-after":
		pass()
		w.lab.answerWithTask(out, c, nil)
	case "hang":
		w.lab.answerWithTask(out, c, nil)
	}
}

// applyStream acts on a transfer of bytes.
func (w *web) applyStream(rule *faultRule, do http.Handler, out http.ResponseWriter, r *http.Request) {
	wait(r.Context(), time.Duration(rule.DelayMS)*time.Millisecond)
	switch {
	case rule.Action == "delay":
		do.ServeHTTP(out, r)
	case rule.Action == "drop" && rule.AfterBytes > 0:
		r.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(r.Body, rule.AfterBytes), r.Body}
		do.ServeHTTP(&shortWriter{ResponseWriter: out, left: rule.AfterBytes}, r)
	case strings.HasPrefix(rule.Action, "fail"):
		http.Error(out, rule.Fault, http.StatusInternalServerError)
	default:
		hangUp(out)
	}
}

// shortWriter ends the connection after so many bytes.
type shortWriter struct {
	http.ResponseWriter

	left int64
}

func (s *shortWriter) Write(b []byte) (int, error) {
	if int64(len(b)) <= s.left {
		s.left -= int64(len(b))
		return s.ResponseWriter.Write(b)
	}
	_, _ = s.ResponseWriter.Write(b[:s.left])
	if flusher, ok := s.ResponseWriter.(http.Flusher); ok {
		flusher.Flush()
	}
	panic(http.ErrAbortHandler)
}

// newFault makes a fault of a class of the API.
func newFault(name string) (fault, error) {
	kind, ok := types.TypeFunc()(name)
	if !ok {
		return nil, fmt.Errorf("no such fault: %q", name)
	}
	f, ok := newValue(kind).(fault)
	if !ok {
		return nil, fmt.Errorf("not a fault: %q", name)
	}
	return f, nil
}

// answerWithTask answers with a task that never ends, or with one that ended in the rule's fault.
func (l *lab) answerWithTask(out http.ResponseWriter, c call, rule *faultRule) {
	if !strings.HasSuffix(c.method, "_Task") {
		hangUp(out)
		return
	}
	task := &simulator.Task{}
	on, name, now := c.entity, strings.TrimSuffix(c.method, "_Task"), time.Now()
	name = strings.ToLower(name[:1]) + name[1:]
	task.Info = types.TaskInfo{
		Name: c.method, DescriptionId: on.Type + "." + name, Entity: &on, EntityName: on.Value,
		State: types.TaskInfoStateRunning, QueueTime: now, StartTime: &now,
		Reason: &types.TaskReasonUser{UserName: "lab"},
	}
	if rule != nil {
		f, _ := newFault(rule.Fault) // checked when the rule came
		task.Info.State, task.Info.CompleteTime = types.TaskInfoStateError, &now
		task.Info.Error = &types.LocalizedMethodFault{Fault: f, LocalizedMessage: rule.message()}
	}
	l.publish(task)
	fmt.Fprintf(out, envelope, fmt.Sprintf(
		`<%sResponse xmlns="urn:vim25"><returnval type="Task">%s</returnval></%[1]sResponse>`, c.method, task.Self.Value))
}

// publish puts a task into the registry under a name of its own. Whatever it is about learns of it, so
// that object's lock is needed: work that goes on, as with hang-after, is over when this returns.
func (l *lab) publish(task *simulator.Task) {
	task.Self = ref{Type: "Task", Value: fmt.Sprintf("task-lab-%d", l.taskNumber.Add(1))}
	task.Info.Task, task.Info.Key = task.Self, task.Self.Value
	l.context().WithLock(&reference{Self: *task.Info.Entity}, func() {
		l.registry.Put(mo.Reference(task))
	})
}

const envelope = xml.Header + `<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" ` +
	`xmlns:xsd="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">` +
	"\n<soapenv:Body>%s</soapenv:Body></soapenv:Envelope>"

func (rule *faultRule) message() string {
	if rule.Message != "" {
		return rule.Message
	}
	return "the lab was told to fail here"
}

// writeFault answers a call with the rule's fault.
func writeFault(out http.ResponseWriter, rule *faultRule) {
	var text strings.Builder
	_ = xml.EscapeText(&text, []byte(rule.message()))
	out.Header().Set("Content-Type", "text/xml; charset=utf-8")
	out.WriteHeader(http.StatusInternalServerError)
	fmt.Fprintf(out, envelope, fmt.Sprintf(
		`<soapenv:Fault><faultcode>ServerFaultCode</faultcode><faultstring>%s</faultstring><detail>`+
			`<%sFault xmlns="urn:vim25" xsi:type="%[2]s"></%[2]sFault></detail></soapenv:Fault>`,
		text.String(), rule.Fault))
}

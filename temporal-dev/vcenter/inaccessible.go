package main

import (
	"bytes"
	"net/http"
	"regexp"
	"sync"
)

// away is the machines whose storage is away: a vCenter lists them, and knows no configuration of them. The
// simulator cannot be without one, so what it tells of them is cut out of its answers.
type away struct {
	mu       sync.Mutex
	machines map[string]bool // by reference; whether the summary is still known
}

var (
	describedMachine = regexp.MustCompile(`(?s)<obj type="VirtualMachine">([^<]+)</obj>(?:<propSet>.*?</propSet>)*`)
	describedValue   = regexp.MustCompile(`(?s)<propSet><name>([^<]+)</name>.*?</propSet>`)
	connectionState  = regexp.MustCompile(`(<name>runtime\.connectionState</name><val[^>]*>)[^<]*`)
	configuration    = regexp.MustCompile(`^(config|capability|layoutEx)(\.|$)`)
)

// conceal takes what is not known of such machines out of an answer.
func (a *away) conceal(body *bytes.Buffer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.machines) == 0 || !bytes.Contains(body.Bytes(), []byte(`<obj type="VirtualMachine">`)) {
		return
	}
	told := describedMachine.ReplaceAllFunc(body.Bytes(), func(one []byte) []byte {
		keepsSummary, isAway := a.machines[string(describedMachine.FindSubmatch(one)[1])]
		if !isAway {
			return one
		}
		known := describedValue.ReplaceAllFunc(one, func(value []byte) []byte {
			name := describedValue.FindSubmatch(value)[1]
			if configuration.Match(name) || (!keepsSummary && bytes.HasPrefix(name, []byte("summary.config"))) {
				return nil
			}
			return value
		})
		return connectionState.ReplaceAll(known, []byte("${1}inaccessible"))
	})
	told = bytes.Clone(told)
	body.Reset()
	body.Write(told)
}

// postInaccessible takes the storage of a machine away.
func (l *lab) postInaccessible(out http.ResponseWriter, r *http.Request) {
	var wanted struct {
		about
		Summary bool `json:"summary"`
	}
	if !read(out, r, &wanted) {
		return
	}
	vm := l.named(out, wanted.Machine)
	if vm == nil {
		return
	}
	l.away.mu.Lock()
	defer l.away.mu.Unlock()
	l.away.machines[vm.Self.Value] = wanted.Summary
	reply(out, wanted)
}

// deleteInaccessible brings all storage back.
func (l *lab) deleteInaccessible(out http.ResponseWriter, _ *http.Request) {
	l.away.mu.Lock()
	defer l.away.mu.Unlock()
	l.away.machines = map[string]bool{}
	reply(out, struct{}{})
}

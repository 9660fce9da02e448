package main

import (
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// latencies are what hosts measure of datastores, by the datastore's name.
type latencies struct {
	mu     sync.Mutex
	stores map[string]latency
}

// latency is the answer of a datastore to reads and writes, in milliseconds; -1: not measured.
type latency struct {
	ReadMS  int64 `json:"read_ms"`
	WriteMS int64 `json:"write_ms"`
}

// Counters of one datastore at one host, as the simulator numbers them.
const (
	datastoreReadLatency  = 182 // datastore.totalReadLatency.average
	datastoreWriteLatency = 183 // datastore.totalWriteLatency.average
)

func newLatencies() *latencies { return &latencies{stores: map[string]latency{}} }

func (s *latencies) of(counter int32, store string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	found, isSet := s.stores[store]
	switch {
	case !isSet:
		return 1
	case counter == datastoreReadLatency:
		return found.ReadMS
	}
	return found.WriteMS
}

// postLatency sets what hosts measure of a datastore from now on.
func (l *lab) postLatency(out http.ResponseWriter, r *http.Request) {
	var wanted struct {
		Datastore string `json:"datastore"`
		latency
	}
	if !read(out, r, &wanted) {
		return
	}
	l.storesMu.RLock()
	_, isKnown := l.stores[wanted.Datastore]
	l.storesMu.RUnlock()
	if !isKnown {
		refuse(out, http.StatusNotFound, "no such datastore: "+wanted.Datastore)
		return
	}
	l.latencies.mu.Lock()
	defer l.latencies.mu.Unlock()
	l.latencies.stores[wanted.Datastore] = wanted.latency
	reply(out, wanted)
}

// deleteLatency makes every datastore fast again.
func (l *lab) deleteLatency(out http.ResponseWriter, _ *http.Request) {
	l.latencies.mu.Lock()
	defer l.latencies.mu.Unlock()
	clear(l.latencies.stores)
	reply(out, l.latencies.stores)
}

// performance is our view of the performance manager: the latest figures of hosts about their datastores are
// those that were set, everything else is made up by the simulator.
type performance struct {
	*simulator.PerformanceManager
	lab *lab
}

func (p *performance) QueryPerf(ctx *simulator.Context, req *types.QueryPerf) soap.HasFault {
	body := &methods.QueryPerfBody{Res: new(types.QueryPerfResponse)}
	for _, spec := range req.QuerySpec {
		host, isHost := ctx.Map.Get(spec.Entity).(*simulator.HostSystem)
		if !isHost || !asksForLatency(spec.MetricId) {
			return p.PerformanceManager.QueryPerf(ctx, req)
		}
		body.Res.Returnval = append(body.Res.Returnval, p.measured(ctx, host, spec))
	}
	return body
}

func asksForLatency(metrics []types.PerfMetricId) bool {
	for _, metric := range metrics {
		if metric.CounterId != datastoreReadLatency && metric.CounterId != datastoreWriteLatency {
			return false
		}
	}
	return len(metrics) > 0
}

// measured answers with one sample of each datastore that was asked for; `*` asks for all.
func (p *performance) measured(
	ctx *simulator.Context, host *simulator.HostSystem, spec types.PerfQuerySpec,
) *types.PerfEntityMetric {
	found := &types.PerfEntityMetric{
		PerfEntityMetricBase: types.PerfEntityMetricBase{Entity: spec.Entity},
		SampleInfo:           []types.PerfSampleInfo{{Timestamp: time.Now(), Interval: 20}},
	}
	for _, metric := range spec.MetricId {
		for _, one := range host.Datastore {
			store, isStore := ctx.Map.Get(one).(*simulator.Datastore)
			if !isStore {
				continue
			}
			// Hosts know a datastore by the last part of its address.
			instance := filepath.Base(store.Summary.Url)
			if metric.Instance != "*" && metric.Instance != instance {
				continue
			}
			found.Value = append(found.Value, &types.PerfMetricIntSeries{
				PerfMetricSeries: types.PerfMetricSeries{
					Id: types.PerfMetricId{CounterId: metric.CounterId, Instance: instance},
				},
				Value: []int64{p.lab.latencies.of(metric.CounterId, store.Name)},
			})
		}
	}
	return found
}

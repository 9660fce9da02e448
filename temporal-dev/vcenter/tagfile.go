package main

import (
	"log"
	"net/http"
	"net/url"
	"path/filepath"
	"reflect"
	"strings"
	"sync"

	"github.com/vmware/govmomi/vapi/tags"
	"github.com/vmware/govmomi/vim25/types"
)

// tagStore is what the simulator's REST API offers to its other parts.
type tagStore interface {
	sync.Locker
	AttachedObjects(tag string) ([]ref, types.BaseMethodFault)
	AttachTag(r ref, tag string) types.BaseMethodFault
}

// tagRecord is everything about tags as it is written.
type tagRecord struct {
	Categories map[string]*tags.Category `json:"categories"`
	Tags       map[string]*tags.Tag      `json:"tags"`
	Attached   map[string][]ref          `json:"attached"`
}

func (l *lab) tagFile() string { return filepath.Join(l.data, "tags.json") }

// tagStore finds the tags in the simulator, which nothing but its web server refers to; nil when a newer
// simulator keeps them elsewhere.
func (l *lab) tagStore() (tagStore, reflect.Value) {
	handler, _ := l.service.ServeMux.Handler(&http.Request{URL: &url.URL{Path: formerRoot + "/tagging/tag"}})
	store, ok := handler.(tagStore)
	if !ok {
		log.Printf("tags are not kept: %T", handler)
		return nil, reflect.Value{}
	}
	return store, reflect.ValueOf(handler).Elem()
}

// changesTags tells whether a call of the former API may change tags.
func changesTags(method, path, action string) bool {
	isTagging := strings.HasPrefix(path, formerRoot+"/tagging") && method != http.MethodGet
	return isTagging && !strings.HasPrefix(action, "list") && !strings.HasPrefix(action, "get")
}

// saveTags writes categories, tags and what they are attached to.
func (l *lab) saveTags() {
	store, fields := l.tagStore()
	if store == nil {
		return
	}
	l.tagsMu.Lock()
	defer l.tagsMu.Unlock()
	store.Lock()
	defer store.Unlock()
	record := tagRecord{
		Categories: fields.FieldByName("Category").Interface().(map[string]*tags.Category),
		Tags:       fields.FieldByName("Tag").Interface().(map[string]*tags.Tag),
		Attached:   map[string][]ref{},
	}
	for id := range record.Tags {
		record.Attached[id], _ = store.AttachedObjects(id)
	}
	writeRecord(l.tagFile(), record)
}

// loadTags reads what an earlier run left.
func (l *lab) loadTags() error {
	var record tagRecord
	if err := readRecordOf(l.tagFile(), &record); err != nil || record.Tags == nil {
		return err
	}
	store, fields := l.tagStore()
	if store == nil {
		return nil
	}
	fields.FieldByName("Category").Set(reflect.ValueOf(record.Categories))
	fields.FieldByName("Tag").Set(reflect.ValueOf(record.Tags))
	attached := fields.FieldByName("Association")
	for id := range record.Tags {
		attached.SetMapIndex(reflect.ValueOf(id), reflect.MakeMap(attached.Type().Elem()))
		for _, r := range record.Attached[id] {
			store.AttachTag(r, id)
		}
	}
	return nil
}

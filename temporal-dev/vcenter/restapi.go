package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// The current REST API stands under /api, the simulator has the former one under /rest. The facade
// translates sessions and tags: the former wraps answers in "value" and bodies in a specification,
// and names objects as id:ID and actions as ~action.
const (
	sessionHeader = "vmware-api-session-id"
	formerRoot    = "/rest/com/vmware/cis"
	taggingRoot   = "/api/cis/tagging/"
)

// restCall is a call of the former API.
type restCall struct {
	method, path, action string
	body                 any
	status               int // of a good answer
}

func (w *web) serveREST(out http.ResponseWriter, r *http.Request) {
	w.count("api:" + strings.TrimPrefix(r.URL.Path, "/api/"))
	token := r.Header.Get(sessionHeader)
	isLogin := r.URL.Path == "/api/session" && r.Method == http.MethodPost
	user, isKnown := w.userOf(token)
	if !isLogin && !isKnown {
		restError(out, http.StatusUnauthorized, "UNAUTHENTICATED")
		return
	}
	if r.URL.Path == "/api/session" {
		w.serveRESTSession(out, r, token)
		return
	}
	// Tags are no part of the inventory; who may see them is said by global permissions, here those of the root.
	if root := w.lab.registry.Get(serviceInstance).(contentHolder).ServiceContent().RootFolder; !w.lab.isGranted(
		w.lab.context(), user, root, "System.Read",
	) {
		restError(out, http.StatusForbidden, "UNAUTHORIZED")
		return
	}
	body := map[string]any{}
	if r.Body != nil {
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil && err != io.EOF {
			restError(out, http.StatusBadRequest, "INVALID_ARGUMENT")
			return
		}
	}
	c, ok := tagging(r, body)
	if !ok {
		restError(out, http.StatusNotFound, "NOT_FOUND")
		return
	}
	w.forward(out, r, c)
}

// userOf returns who began a session of the REST API; false when there is no such session.
func (w *web) userOf(token string) (string, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	user, isKnown := w.tokens[token]
	return user, isKnown
}

// serveRESTSession logs in with a name and password, tells who is logged in, and logs out.
func (w *web) serveRESTSession(out http.ResponseWriter, r *http.Request, token string) {
	switch r.Method {
	case http.MethodPost:
		user := w.lab.requester(r)
		if user == "" {
			restError(out, http.StatusUnauthorized, "UNAUTHENTICATED")
			return
		}
		a := w.ask(r, restCall{method: http.MethodPost, path: formerRoot + "/session"})
		var answer struct {
			Value string `json:"value"`
		}
		_ = json.Unmarshal(a.body.Bytes(), &answer)
		w.mu.Lock()
		w.tokens[answer.Value] = user
		w.mu.Unlock()
		sendJSON(out, http.StatusCreated, answer.Value)
	case http.MethodDelete:
		w.mu.Lock()
		delete(w.tokens, token)
		w.mu.Unlock()
		out.WriteHeader(http.StatusNoContent)
	default:
		w.forward(out, r, restCall{method: http.MethodGet, path: formerRoot + "/session", status: http.StatusOK})
	}
}

// tagging translates a call on categories, tags and associations; false when there is no such call.
func tagging(r *http.Request, body map[string]any) (restCall, bool) {
	kind, id, hasID := strings.Cut(strings.TrimPrefix(r.URL.Path, taggingRoot), "/")
	action := r.URL.Query().Get("action")
	c := restCall{method: r.Method, path: formerRoot + "/tagging/" + kind, action: action, body: body}
	c.status = map[string]int{
		http.MethodGet: http.StatusOK, http.MethodPost: http.StatusCreated, http.MethodPatch: http.StatusNoContent,
		http.MethodDelete: http.StatusNoContent,
	}[r.Method]
	if hasID {
		c.path += "/id:" + id
	}
	switch {
	case kind == "tag" && action == "list-tags-for-category":
		category, _ := body["category_id"].(string)
		c.path, c.status = c.path+"/id:"+category, http.StatusOK
	case kind == "tag-association" && (action == "attach" || action == "detach"):
		c.status = http.StatusNoContent
	case kind == "tag-association" && action != "":
		c.status = http.StatusOK
	case (kind == "tag" || kind == "category") && action == "":
		if r.Method == http.MethodPost {
			c.body = map[string]any{"create_spec": body}
		}
		if r.Method == http.MethodPatch {
			c.body = map[string]any{"update_spec": body}
		}
	default:
		return c, false
	}
	return c, c.status != 0
}

// ask has the simulator answer a call of the former API.
func (w *web) ask(r *http.Request, c restCall) *answer {
	text, _ := json.Marshal(c.body)
	inner := r.Clone(r.Context())
	inner.Method, inner.URL = c.method, &url.URL{Path: c.path}
	if c.action != "" {
		inner.URL.RawQuery = url.Values{"~action": {c.action}}.Encode()
	}
	inner.RequestURI, inner.Body = inner.URL.RequestURI(), io.NopCloser(bytes.NewReader(text))
	a := &answer{header: http.Header{}, status: http.StatusOK}
	w.inner.ServeHTTP(a, inner)
	if changesTags(c.method, c.path, c.action) {
		w.lab.saveTags()
	}
	return a
}

func (w *web) forward(out http.ResponseWriter, r *http.Request, c restCall) {
	a := w.ask(r, c)
	if a.status != http.StatusOK {
		var failed struct {
			Type string `json:"type"`
		}
		_ = json.Unmarshal(a.body.Bytes(), &failed)
		kind := strings.ToUpper(failed.Type[strings.LastIndex(failed.Type, ".")+1:])
		if kind == "" {
			kind = "NOT_FOUND"
		}
		restError(out, a.status, kind)
		return
	}
	if c.status == http.StatusNoContent {
		out.WriteHeader(c.status)
		return
	}
	var answer struct {
		Value json.RawMessage `json:"value"`
	}
	_ = json.Unmarshal(a.body.Bytes(), &answer)
	if len(answer.Value) == 0 || string(answer.Value) == "null" {
		answer.Value = json.RawMessage("[]")
	}
	sendJSON(out, c.status, answer.Value)
}

func sendJSON(out http.ResponseWriter, status int, value any) {
	out.Header().Set("Content-Type", "application/json")
	out.WriteHeader(status)
	_ = json.NewEncoder(out).Encode(value)
}

func restError(out http.ResponseWriter, status int, kind string) {
	sendJSON(out, status, map[string]any{"error_type": kind, "messages": []any{}})
}

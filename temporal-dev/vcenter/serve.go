package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// address is what the file of --url-file holds.
type address struct {
	URL              string `json:"url"`
	User             string `json:"user"`
	Password         string `json:"password"`
	Thumbprint       string `json:"thumbprint"`        // SHA-1, as VDDK and nbdkit want it
	ThumbprintSHA256 string `json:"thumbprint_sha256"` // as vCenter shows it
	Certificate      string `json:"certificate"`       // file
	ControlURL       string `json:"control_url"`
	InstanceUUID     string `json:"instance_uuid"`
	PID              int    `json:"pid"`
}

// serve opens both ports and then writes the file that says so.
func (l *lab) serve(o options) error {
	pair, err := certificate(l.data)
	if err != nil {
		return err
	}
	l.service.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	l.service.Listen = &url.URL{Host: o.listen, User: url.UserPassword(o.user, o.password)}
	l.service.RegisterEndpoints = true
	l.registry.SessionManager().ValidLogin = l.accounts.isValid
	l.server = l.service.NewServer()
	if err := l.loadTags(); err != nil {
		return err
	}
	l.web.mount(l.server.Config)
	if err := l.serveControl(o.control); err != nil {
		return err
	}
	about := l.registry.Get(serviceInstance).(contentHolder).ServiceContent().About
	l.address.URL = (&url.URL{Scheme: "https", Host: l.server.URL.Host, Path: l.server.URL.Path}).String()
	l.address.User, l.address.Password = o.user, o.password
	l.address.Thumbprint, l.address.ThumbprintSHA256 = thumbprints(pair)
	l.address.Certificate = filepath.Join(l.data, "vcenter.crt")
	l.address.InstanceUUID, l.address.PID = about.InstanceUuid, os.Getpid()
	if o.urlFile == "" {
		return nil
	}
	return writeJSON(o.urlFile, l.address)
}

func (l *lab) serveControl(listen string) error {
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	l.address.ControlURL = "http://" + listener.Addr().String()
	l.control = &http.Server{Handler: l.controlRoutes(), ReadHeaderTimeout: 10 * time.Second}
	go func() {
		if err := l.control.Serve(listener); err != http.ErrServerClosed {
			l.failed <- err
		}
	}()
	return nil
}

// writeJSON replaces a file at once, so that no reader sees half of it.
func writeJSON(file string, value any) error {
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	draft := file + ".new"
	if err := os.WriteFile(draft, append(text, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(draft, file)
}

// shutdown ends a server within a second.
func shutdown(server *http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if server.Shutdown(ctx) != nil {
		_ = server.Close()
	}
}

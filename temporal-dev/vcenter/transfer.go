package main

import (
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strings"
)

// serveNFC serves the addresses of leases: GET reads a disk as a stream, PUT and POST write one.
func (w *web) serveNFC(out http.ResponseWriter, r *http.Request) {
	id, name, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/nfc/"), "/")
	l, _ := w.lab.registry.Get(ref{Type: "HttpNfcLease", Value: id}).(*lease)
	if l == nil {
		http.NotFound(out, r)
		return
	}
	l.mu.Lock()
	disk := l.disks[name]
	l.mu.Unlock()
	if disk == nil {
		http.NotFound(out, r)
		return
	}
	c := call{method: "nfc:" + r.Method, this: l.Self, entity: l.Info.Entity}
	if r.Method == http.MethodPost {
		c.method = "nfc:PUT"
	}
	w.count(c.method)
	transfer := http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) { l.transfer(out, r, disk) })
	if rule := w.book.match(w.lab, c); rule != nil {
		w.applyStream(rule, transfer, out, r)
		return
	}
	transfer(out, r)
}

func (l *lease) transfer(out http.ResponseWriter, r *http.Request, disk *leasedDisk) {
	switch {
	case r.Method == http.MethodGet && !l.isImport:
		l.export(out, disk)
	case (r.Method == http.MethodPut || r.Method == http.MethodPost) && l.isImport:
		if err := l.store(r.Body, disk); err != nil {
			_, _ = io.Copy(io.Discard, r.Body) // a client that still sends would not read the answer
			http.Error(out, err.Error(), http.StatusInternalServerError)
			return
		}
		out.WriteHeader(http.StatusCreated)
	default:
		http.Error(out, "not with this lease", http.StatusMethodNotAllowed)
	}
}

// counter counts and digests what passes.
type counter struct {
	io.Writer

	size int64
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.Writer.Write(b)
	c.size += int64(n)
	return n, err
}

func (l *lease) export(out http.ResponseWriter, disk *leasedDisk) {
	in, err := os.Open(disk.extent)
	if err != nil {
		http.Error(out, err.Error(), http.StatusInternalServerError)
		return
	}
	defer in.Close()
	out.Header().Set("Content-Type", "application/x-vnd.vmware-streamVmdk")
	digest := sha1.New()
	counted := &counter{Writer: io.MultiWriter(out, digest)}
	if err := writeStream(counted, in, disk.capacity); err != nil {
		log.Printf("lease %s: %s", l.Self.Value, err)
		panic(http.ErrAbortHandler) // the client must not take half a disk for a whole one
	}
	l.note(disk, digest.Sum(nil), counted.size)
}

// store replaces the bytes of a disk by those of a stream.
func (l *lease) store(body io.Reader, disk *leasedDisk) error {
	out, err := os.OpenFile(disk.extent, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer out.Close()
	if err := errors.Join(out.Truncate(0), out.Truncate(disk.capacity)); err != nil {
		return err
	}
	digest := sha1.New()
	counted := &counter{Writer: digest}
	if err := readStream(io.TeeReader(body, counted), out, disk.capacity); err != nil {
		return fmt.Errorf("disk %s: %w", disk.key, err)
	}
	l.note(disk, digest.Sum(nil), counted.size)
	return nil
}

func (l *lease) note(disk *leasedDisk, digest []byte, size int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	disk.sha1, disk.size = hex.EncodeToString(digest), size
}

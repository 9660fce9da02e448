package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"

	"github.com/google/uuid"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// guestTransfer is what an address of a transfer stands for.
type guestTransfer struct {
	file    string
	isWrite bool
	size    int64
	mode    os.FileMode
}

// offer returns the address of a transfer. It holds for one transfer and needs no session.
func (g *guests) offer(t guestTransfer) string {
	token := uuid.NewString()
	g.mu.Lock()
	g.transfers[token] = t
	g.mu.Unlock()
	base, _ := url.Parse(g.lab.address.URL) // our own
	where := url.URL{
		Scheme: base.Scheme, Host: base.Host, Path: "/guestFile", RawQuery: url.Values{"token": {token}}.Encode(),
	}
	return where.String()
}

// fileFault names a file of the guest in the fault that an error stands for.
func fileFault(err error, name string) fault {
	named := types.FileFault{File: name}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrNotExist):
		return &types.FileNotFound{FileFault: named}
	case errors.Is(err, os.ErrExist):
		return &types.FileAlreadyExists{FileFault: named}
	}
	return &types.CannotAccessFile{FileFault: named}
}

// InitiateFileTransferToGuest gives an address to which a file of the given size is put.
func (m *guestFiles) InitiateFileTransferToGuest(
	_ *simulator.Context, req *types.InitiateFileTransferToGuest,
) soap.HasFault {
	body := new(methods.InitiateFileTransferToGuestBody)
	folder, f := m.guests.enter(req.Vm, req.Auth)
	t := guestTransfer{file: inside(folder, req.GuestFilePath), isWrite: true, size: req.FileSize, mode: 0o600}
	if posix, ok := req.FileAttributes.(*types.GuestPosixFileAttributes); ok && posix.Permissions != 0 {
		t.mode = os.FileMode(posix.Permissions) & os.ModePerm
	}
	if f == nil {
		_, err := os.Stat(filepath.Dir(t.file))
		f = fileFault(err, path.Dir(req.GuestFilePath))
	}
	if _, err := os.Stat(t.file); f == nil && err == nil && !req.Overwrite {
		f = fileFault(os.ErrExist, req.GuestFilePath)
	}
	if f != nil {
		body.Fault_ = soapFault(f)
		return body
	}
	body.Res = &types.InitiateFileTransferToGuestResponse{Returnval: m.guests.offer(t)}
	return body
}

// InitiateFileTransferFromGuest gives an address from which a file is read.
func (m *guestFiles) InitiateFileTransferFromGuest(
	_ *simulator.Context, req *types.InitiateFileTransferFromGuest,
) soap.HasFault {
	body := new(methods.InitiateFileTransferFromGuestBody)
	folder, f := m.guests.enter(req.Vm, req.Auth)
	file := inside(folder, req.GuestFilePath)
	info, err := os.Stat(file)
	if f == nil {
		f = fileFault(err, req.GuestFilePath)
	}
	if f != nil {
		body.Fault_ = soapFault(f)
		return body
	}
	body.Res = &types.InitiateFileTransferFromGuestResponse{Returnval: types.FileTransferInformation{
		Attributes: attributes(info), Size: info.Size(), Url: m.guests.offer(guestTransfer{file: file}),
	}}
	return body
}

func attributes(info os.FileInfo) *types.GuestPosixFileAttributes {
	changed := info.ModTime()
	return &types.GuestPosixFileAttributes{
		GuestFileAttributes: types.GuestFileAttributes{ModificationTime: &changed, AccessTime: &changed},
		OwnerId:             types.NewInt32(0), GroupId: types.NewInt32(0), Permissions: int64(info.Mode().Perm()),
	}
}

// MakeDirectoryInGuest makes a folder.
func (m *guestFiles) MakeDirectoryInGuest(_ *simulator.Context, req *types.MakeDirectoryInGuest) soap.HasFault {
	body := new(methods.MakeDirectoryInGuestBody)
	folder, f := m.guests.enter(req.Vm, req.Auth)
	if f == nil {
		make := os.Mkdir
		if req.CreateParentDirectories {
			make = os.MkdirAll
		}
		f = fileFault(make(inside(folder, req.DirectoryPath), 0o700), req.DirectoryPath)
	}
	if f != nil {
		body.Fault_ = soapFault(f)
		return body
	}
	body.Res = new(types.MakeDirectoryInGuestResponse)
	return body
}

// DeleteFileInGuest deletes a file.
func (m *guestFiles) DeleteFileInGuest(_ *simulator.Context, req *types.DeleteFileInGuest) soap.HasFault {
	body := new(methods.DeleteFileInGuestBody)
	folder, f := m.guests.enter(req.Vm, req.Auth)
	if f == nil {
		f = fileFault(os.Remove(inside(folder, req.FilePath)), req.FilePath)
	}
	if f != nil {
		body.Fault_ = soapFault(f)
		return body
	}
	body.Res = new(types.DeleteFileInGuestResponse)
	return body
}

// DeleteDirectoryInGuest deletes a folder, one with contents only when told so.
func (m *guestFiles) DeleteDirectoryInGuest(
	_ *simulator.Context, req *types.DeleteDirectoryInGuest,
) soap.HasFault {
	body := new(methods.DeleteDirectoryInGuestBody)
	folder, f := m.guests.enter(req.Vm, req.Auth)
	if f == nil {
		remove := os.Remove
		if req.Recursive {
			remove = os.RemoveAll
		}
		f = fileFault(remove(inside(folder, req.DirectoryPath)), req.DirectoryPath)
	}
	if f != nil {
		body.Fault_ = soapFault(f)
		return body
	}
	body.Res = new(types.DeleteDirectoryInGuestResponse)
	return body
}

// CreateTemporaryDirectoryInGuest makes a folder of a new name.
func (m *guestFiles) CreateTemporaryDirectoryInGuest(
	_ *simulator.Context, req *types.CreateTemporaryDirectoryInGuest,
) soap.HasFault {
	body := new(methods.CreateTemporaryDirectoryInGuestBody)
	folder, f := m.guests.enter(req.Vm, req.Auth)
	parent := req.DirectoryPath
	if parent == "" {
		parent = "/tmp"
	}
	name := path.Join(parent, req.Prefix+uuid.NewString()[:8]+req.Suffix)
	if f == nil {
		f = fileFault(os.MkdirAll(inside(folder, name), 0o700), name)
	}
	if f != nil {
		body.Fault_ = soapFault(f)
		return body
	}
	body.Res = &types.CreateTemporaryDirectoryInGuestResponse{Returnval: name}
	return body
}

// ListFilesInGuest lists a folder, or shows one file. Patterns and pages are not supported.
func (m *guestFiles) ListFilesInGuest(_ *simulator.Context, req *types.ListFilesInGuest) soap.HasFault {
	body := new(methods.ListFilesInGuestBody)
	folder, f := m.guests.enter(req.Vm, req.Auth)
	files, err := listGuest(inside(folder, req.FilePath))
	if f == nil {
		f = fileFault(err, req.FilePath)
	}
	if f != nil {
		body.Fault_ = soapFault(f)
		return body
	}
	body.Res = &types.ListFilesInGuestResponse{Returnval: types.GuestListFileInfo{Files: files}}
	return body
}

func listGuest(file string) ([]types.GuestFileInfo, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []types.GuestFileInfo{guestFileInfo(info)}, nil
	}
	entries, err := os.ReadDir(file)
	if err != nil {
		return nil, err
	}
	var files []types.GuestFileInfo
	for _, entry := range entries {
		if info, err := entry.Info(); err == nil {
			files = append(files, guestFileInfo(info))
		}
	}
	sort.Slice(files, func(i, j int) bool { return files[i].Path < files[j].Path })
	return files, nil
}

func guestFileInfo(info os.FileInfo) types.GuestFileInfo {
	kind := types.GuestFileTypeFile
	if info.IsDir() {
		kind = types.GuestFileTypeDirectory
	}
	return types.GuestFileInfo{
		Path: info.Name(), Type: string(kind), Size: info.Size(), Attributes: attributes(info),
	}
}

// serveGuestFile serves the addresses of transfers, each once.
func (w *web) serveGuestFile(out http.ResponseWriter, r *http.Request) {
	token := r.URL.Query().Get("token")
	w.lab.guests.mu.Lock()
	t, known := w.lab.guests.transfers[token]
	delete(w.lab.guests.transfers, token)
	w.lab.guests.mu.Unlock()
	switch {
	case !known:
		http.NotFound(out, r)
	case t.isWrite && r.Method == http.MethodPut:
		if err := t.store(r); err != nil {
			http.Error(out, err.Error(), http.StatusInternalServerError)
		}
	case !t.isWrite && r.Method == http.MethodGet:
		http.ServeFile(out, r, t.file)
	default:
		http.Error(out, "not at this address", http.StatusMethodNotAllowed)
	}
}

func (t guestTransfer) store(r *http.Request) error {
	if r.ContentLength != t.size {
		return fmt.Errorf("%d bytes were announced, %d come", t.size, r.ContentLength)
	}
	out, err := os.OpenFile(t.file, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, t.mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, r.Body)
	return errors.Join(err, out.Close(), os.Chmod(t.file, t.mode))
}

// showGuests tells a test where the folders of guests are.
func (l *lab) showGuests(out http.ResponseWriter, r *http.Request) {
	vm := l.named(out, strings.TrimSpace(r.URL.Query().Get("machine")))
	if vm == nil {
		return
	}
	folder := l.guests.folder(vm)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		refuse(out, http.StatusInternalServerError, err.Error())
		return
	}
	reply(out, map[string]string{"machine": vm.Name, "folder": folder})
}

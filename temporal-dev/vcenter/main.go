// Command vcenter is the lab vCenter: govmomi's simulator with a data plane.
//
// Unmodified pyVmomi talks to it. On top of the simulator it has disks of real bytes, snapshots
// that freeze them, changed-block tracking, consolidation, locks, leases with data, privileges and
// guest operations, and a control endpoint that makes it fail on demand. README.md says what it
// does as the real product and what it does not.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// options are the flags of the command line.
type options struct {
	listen      string
	control     string
	user        string
	password    string
	apiVersion  string
	data        string
	urlFile     string
	idle        time.Duration
	inventory   inventoryOptions
	guestSecret string
}

func main() {
	log.SetFlags(log.LstdFlags | log.Lmicroseconds)
	if err := run(parseFlags()); err != nil {
		log.Print(err)
		os.Exit(1)
	}
}

func parseFlags() options {
	var o options
	flag.StringVar(&o.listen, "listen", "127.0.0.1:0", "address of the vCenter")
	flag.StringVar(&o.control, "control", "127.0.0.1:0", "address of the control endpoint")
	flag.StringVar(&o.user, "user", "administrator@vsphere.local", "name of the administrator")
	flag.StringVar(&o.password, "password", "lab", "password of the administrator")
	flag.StringVar(&o.apiVersion, "api-version", "8.0.3.0", "version of the API")
	flag.StringVar(&o.data, "data", "", "folder of the datastores and of the identity")
	flag.StringVar(&o.urlFile, "url-file", "", "file that is written when the lab serves")
	flag.DurationVar(&o.idle, "session-idle", 30*time.Minute, "a session unused for so long ends")
	flag.StringVar(&o.guestSecret, "guest-password", "guest", "password of every account in guests")
	o.inventory.register(flag.CommandLine)
	flag.Parse()
	return o
}

// run serves until SIGTERM or SIGINT.
func run(o options) error {
	if o.data == "" {
		return errors.New("--data names the folder of the datastores; it is required")
	}
	data, err := filepath.Abs(o.data)
	if err != nil {
		return err
	}
	o.data = data
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	l, err := newLab(ctx, o)
	if err != nil {
		return err
	}
	defer l.close()
	if err := l.serve(o); err != nil {
		return err
	}
	fmt.Println("ready", l.address.URL)
	select {
	case <-ctx.Done():
		return nil
	case err := <-l.failed:
		return err
	}
}

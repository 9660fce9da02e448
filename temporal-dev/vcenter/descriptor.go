package main

import (
	"bufio"
	"fmt"
	"hash/fnv"
	"os"
	"path"
	"strings"
)

const sector = 512

// writeDescriptor writes the text file that stands for a disk. Like ESXi's it names the parent, by
// which a chain can be registered again, and carries the uuid of the disk.
func (g *diskGraph) writeDescriptor(f *diskFile, capacity int64, uuid string) error {
	var b strings.Builder
	parentCID, kind, access := "ffffffff", "vmfs", "VMFS"
	if f.parent != "" {
		parentCID, kind, access = contentID(f.parent), "seSparse", "SESPARSE"
	}
	fmt.Fprintf(&b, "# Disk DescriptorFile\nversion=1\nencoding=\"UTF-8\"\nCID=%s\nparentCID=%s\n", contentID(f.name), parentCID)
	fmt.Fprintf(&b, "createType=\"%s\"\n", kind)
	if f.parent != "" {
		fmt.Fprintf(&b, "parentFileNameHint=\"%s\"\n", hintOf(f))
	}
	extent := path.Base(extentName(f.name, f.parent != ""))
	fmt.Fprintf(&b, "\n# Extent description\nRW %d %s \"%s\"\n", capacity/sector, access, extent)
	fmt.Fprintf(&b, "\n# The Disk Data Base\n#DDB\n\nddb.adapterType = \"lsilogic\"\nddb.thinProvisioned = \"1\"\n")
	if uuid != "" {
		fmt.Fprintf(&b, "ddb.uuid = \"%s\"\n", spacedUUID(uuid))
	}
	fmt.Fprintf(&b, "ddb.virtualHWVersion = \"19\"\n")
	return os.WriteFile(g.lab.resolve(f.name), []byte(b.String()), 0o600)
}

// hintOf names the parent: by its name alone in the same folder, else by its datastore path.
func hintOf(f *diskFile) string {
	if path.Dir(f.parent) == path.Dir(f.name) {
		return path.Base(f.parent)
	}
	return f.parent
}

// contentID is a number of eight hexadecimal digits that follows from a text.
func contentID(text string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(text))
	return fmt.Sprintf("%08x", h.Sum32())
}

// spacedUUID writes a uuid as descriptors do: "60 00 C2 9a 12 34 56 78-9a bc de f0 12 34 56 78".
func spacedUUID(uuid string) string {
	digits := strings.ReplaceAll(uuid, "-", "")
	var b strings.Builder
	for i := 0; i+2 <= len(digits); i += 2 {
		switch {
		case i == 16:
			b.WriteByte('-')
		case i > 0:
			b.WriteByte(' ')
		}
		b.WriteString(digits[i : i+2])
	}
	return b.String()
}

// descriptorValue reads one value of a descriptor; empty when it is not there.
func descriptorValue(file, key string) string {
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		name, value, found := strings.Cut(lines.Text(), "=")
		if found && strings.TrimSpace(name) == key {
			return strings.Trim(strings.TrimSpace(value), `"`)
		}
	}
	return ""
}

func parentHint(file string) string { return descriptorValue(file, "parentFileNameHint") }

// uuidOf reads the uuid of a disk from its descriptor, in the form backings have.
func uuidOf(file string) string {
	return joinedUUID(descriptorValue(file, "ddb.uuid"))
}

// joinedUUID turns the bytes of files, as spacedUUID writes them, into the usual form.
func joinedUUID(spaced string) string {
	digits := strings.NewReplacer(" ", "", "-", "").Replace(spaced)
	if len(digits) != 32 {
		return ""
	}
	return strings.Join([]string{digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]}, "-")
}

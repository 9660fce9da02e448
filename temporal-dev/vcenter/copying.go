package main

import (
	"errors"
	"io"
	"os"
	"syscall"
)

const (
	seekData = 3 // lseek: the next byte that is allocated
	seekHole = 4 // lseek: the next byte that is not
	ficlone  = 0x40049409
)

// span is a stretch of bytes of a disk.
type span struct {
	Start  int64 `json:"start"`
	Length int64 `json:"length"`
}

func (r span) end() int64 { return r.Start + r.Length }

// cloneFile makes target a copy of source that shares its blocks where the file system can, and
// copies the allocated stretches otherwise. Only the former is a copy of one moment if the source
// is being written meanwhile.
func cloneFile(source, target string) error {
	in, err := os.Open(source)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(target, os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	if _, _, failed := syscall.Syscall(syscall.SYS_IOCTL, out.Fd(), ficlone, in.Fd()); failed == 0 {
		return nil
	}
	info, err := in.Stat()
	if err != nil {
		return err
	}
	if err := out.Truncate(info.Size()); err != nil {
		return err
	}
	runs, err := dataRuns(in, info.Size())
	if err != nil {
		return err
	}
	for _, r := range runs {
		if err := copyRun(in, out, r); err != nil {
			return err
		}
	}
	return nil
}

func copyRun(in, out *os.File, r span) error {
	if _, err := in.Seek(r.Start, io.SeekStart); err != nil {
		return err
	}
	if _, err := out.Seek(r.Start, io.SeekStart); err != nil {
		return err
	}
	_, err := io.CopyN(out, in, r.Length)
	return err
}

// dataRuns lists the allocated stretches of a file, in order.
func dataRuns(f *os.File, size int64) ([]span, error) {
	var runs []span
	for at := int64(0); at < size; {
		start, err := f.Seek(at, seekData)
		if errors.Is(err, syscall.ENXIO) {
			return runs, nil
		}
		if err != nil {
			return nil, err
		}
		end, err := f.Seek(start, seekHole)
		if err != nil {
			return nil, err
		}
		end = min(end, size)
		runs = append(runs, span{start, end - start})
		at = end
	}
	return runs, nil
}

// rounded widens runs to whole blocks within size and joins those that touch.
func rounded(runs []span, block, size int64) []span {
	var wide []span
	for _, r := range runs {
		start := r.Start / block * block
		end := min((r.end()+block-1)/block*block, size)
		if last := len(wide) - 1; last >= 0 && wide[last].end() >= start {
			wide[last].Length = max(wide[last].end(), end) - wide[last].Start
			continue
		}
		wide = append(wide, span{start, end - start})
	}
	return wide
}

// without returns the parts of runs that lie outside every hidden stretch.
func without(runs, hidden []span) []span {
	for _, h := range hidden {
		var kept []span
		for _, r := range runs {
			if before := min(r.end(), h.Start) - r.Start; before > 0 {
				kept = append(kept, span{r.Start, before})
			}
			if from := max(r.Start, h.end()); from < r.end() {
				kept = append(kept, span{from, r.end() - from})
			}
		}
		runs = kept
	}
	return runs
}

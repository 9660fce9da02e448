package main

import (
	"bufio"
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// The stream-optimized VMDK: a header, a descriptor, and then compressed grains in the order of the
// disk, each table behind the grains it lists, the directory of tables and a copy of the header at
// the end. A sector that begins with a size of 0 is a marker.
const (
	grainSectors    = 128
	grainBytes      = grainSectors * sector
	grainsPerTable  = 512
	overheadSectors = 128
	directoryAtEnd  = ^uint64(0)

	markerEnd, markerTable, markerDirectory, markerFooter = 0, 1, 2, 3
)

// sparseHeader is the header as it stands in the file, little-endian, followed by 433 zeros.
type sparseHeader struct {
	Magic              [4]byte
	Version, Flags     uint32
	Capacity           uint64
	GrainSize          uint64
	DescriptorOffset   uint64
	DescriptorSize     uint64
	EntriesPerTable    uint32
	RedundantDirectory uint64
	Directory          uint64
	Overhead           uint64
	Unclean            byte
	LineEnds           [4]byte
	Compression        uint16
}

func newSparseHeader(capacity int64, directory uint64) sparseHeader {
	return sparseHeader{
		Magic: [4]byte{'K', 'D', 'M', 'V'}, Version: 3,
		Flags:    1 | 1<<16 | 1<<17, // line ends can be checked, grains are compressed, there are markers
		Capacity: uint64(capacity / sector), GrainSize: grainSectors, DescriptorOffset: 1, DescriptorSize: 20,
		EntriesPerTable: grainsPerTable, Directory: directory, Overhead: overheadSectors,
		LineEnds: [4]byte{'\n', ' ', '\r', '\n'}, Compression: 1,
	}
}

// streamWriter writes a disk and knows where it stands, in sectors.
type streamWriter struct {
	out    *bufio.Writer
	at     uint64
	packed bytes.Buffer
	tables []uint32 // where each table stands; 0: all its grains are zeros
}

// writeStream writes the allocated, non-zero grains of a raw file as a stream-optimized VMDK.
func writeStream(to io.Writer, in *os.File, capacity int64) error {
	runs, err := dataRuns(in, capacity)
	if err != nil {
		return err
	}
	w := &streamWriter{out: bufio.NewWriterSize(to, 1<<20)}
	if err := w.begin(capacity); err != nil {
		return err
	}
	const tableBytes = grainsPerTable * grainBytes
	runs = rounded(runs, grainBytes, capacity)
	for start := int64(0); start < capacity; start += tableBytes {
		end := min(start+tableBytes, capacity)
		if err := w.table(in, runsWithin(runs, start, end), start); err != nil {
			return err
		}
	}
	return w.end(capacity)
}

// runsWithin cuts runs to a window.
func runsWithin(runs []span, start, end int64) []span {
	var cut []span
	for _, r := range runs {
		if from, to := max(r.Start, start), min(r.end(), end); from < to {
			cut = append(cut, span{from, to - from})
		}
	}
	return cut
}

func (w *streamWriter) begin(capacity int64) error {
	if err := w.struct512(newSparseHeader(capacity, directoryAtEnd)); err != nil {
		return err
	}
	text := fmt.Sprintf("# Disk DescriptorFile\nversion=1\nCID=%s\nparentCID=ffffffff\n"+
		"createType=\"streamOptimized\"\n\nRDONLY %d SPARSE \"disk.vmdk\"\n\nddb.adapterType = \"lsilogic\"\n",
		contentID(fmt.Sprint(capacity)), capacity/sector)
	return w.padded([]byte(text), (overheadSectors-1)*sector)
}

// table writes the grains of one table and then the table, unless all are zeros.
func (w *streamWriter) table(in *os.File, runs []span, start int64) error {
	places, isUsed, grain := make([]uint32, grainsPerTable), false, make([]byte, grainBytes)
	for _, r := range runs {
		for at := r.Start; at < r.end(); at += grainBytes {
			clear(grain)
			if _, err := in.ReadAt(grain, at); err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			if isZero(grain) {
				continue
			}
			places[(at-start)/grainBytes], isUsed = uint32(w.at), true
			if err := w.grain(grain, at); err != nil {
				return err
			}
		}
	}
	if !isUsed {
		w.tables = append(w.tables, 0)
		return nil
	}
	if err := w.marker(grainsPerTable*4/sector, markerTable); err != nil {
		return err
	}
	w.tables = append(w.tables, uint32(w.at))
	return w.numbers(places)
}

func isZero(b []byte) bool { return len(bytes.TrimLeft(b, "\x00")) == 0 }

func (w *streamWriter) grain(grain []byte, at int64) error {
	w.packed.Reset()
	w.packed.Write(make([]byte, 12))
	packer, err := zlib.NewWriterLevel(&w.packed, zlib.BestSpeed)
	if err != nil {
		return err
	}
	if _, err := packer.Write(grain); err != nil {
		return err
	}
	if err := packer.Close(); err != nil {
		return err
	}
	block := w.packed.Bytes()
	binary.LittleEndian.PutUint64(block, uint64(at/sector))
	binary.LittleEndian.PutUint32(block[8:], uint32(len(block)-12))
	return w.padded(block, 0)
}

func (w *streamWriter) end(capacity int64) error {
	sectors := (len(w.tables)*4 + sector - 1) / sector
	if err := w.marker(uint64(sectors), markerDirectory); err != nil {
		return err
	}
	directory := w.at
	if err := w.numbers(w.tables); err != nil {
		return err
	}
	if err := w.marker(1, markerFooter); err != nil {
		return err
	}
	if err := w.struct512(newSparseHeader(capacity, directory)); err != nil {
		return err
	}
	if err := w.marker(0, markerEnd); err != nil {
		return err
	}
	return w.out.Flush()
}

func (w *streamWriter) marker(sectors uint64, kind uint32) error {
	block := make([]byte, sector)
	binary.LittleEndian.PutUint64(block, sectors)
	binary.LittleEndian.PutUint32(block[12:], kind)
	return w.padded(block, 0)
}

func (w *streamWriter) numbers(values []uint32) error {
	var b bytes.Buffer
	_ = binary.Write(&b, binary.LittleEndian, values) // never fails
	return w.padded(b.Bytes(), 0)
}

func (w *streamWriter) struct512(header sparseHeader) error {
	var b bytes.Buffer
	_ = binary.Write(&b, binary.LittleEndian, header) // never fails
	return w.padded(b.Bytes(), 0)
}

// padded writes a block with zeros up to a size, or to the next sector.
func (w *streamWriter) padded(block []byte, size int) error {
	size = max(size, (len(block)+sector-1)/sector*sector)
	if _, err := w.out.Write(block); err != nil {
		return err
	}
	w.at += uint64(size / sector)
	_, err := w.out.Write(make([]byte, size-len(block)))
	return err
}

var errNotStream = errors.New("this is no stream-optimized VMDK")

// readStream writes the grains of a stream-optimized VMDK into a raw file.
func readStream(from io.Reader, out *os.File, capacity int64) error {
	in := bufio.NewReaderSize(from, 1<<20)
	var header sparseHeader
	if err := binary.Read(in, binary.LittleEndian, &header); err != nil {
		return errNotStream
	}
	if string(header.Magic[:]) != "KDMV" || header.Flags>>16&3 != 3 {
		return errNotStream
	}
	if int64(header.Capacity)*sector > capacity {
		return fmt.Errorf("the disk has %d bytes, the stream %d", capacity, header.Capacity*sector)
	}
	if _, err := in.Discard(int(header.Overhead)*sector - binary.Size(header)); err != nil {
		return err
	}
	for {
		isEnd, err := readBlock(in, out)
		if isEnd || err != nil {
			return err
		}
	}
}

// readBlock reads a grain or skips what a marker announces; true at the end of the stream.
func readBlock(in *bufio.Reader, out *os.File) (bool, error) {
	first := make([]byte, sector)
	if _, err := io.ReadFull(in, first); err != nil {
		return false, err
	}
	value, size := binary.LittleEndian.Uint64(first), binary.LittleEndian.Uint32(first[8:])
	if size == 0 {
		if binary.LittleEndian.Uint32(first[12:]) == markerEnd {
			return true, nil
		}
		_, err := in.Discard(int(value) * sector)
		return false, err
	}
	if size > 2*grainBytes {
		return false, errNotStream
	}
	whole := append(first, make([]byte, (int(size)+12+sector-1)/sector*sector-sector)...)
	if _, err := io.ReadFull(in, whole[sector:]); err != nil {
		return false, err
	}
	unpacker, err := zlib.NewReader(bytes.NewReader(whole[12 : 12+size]))
	if err != nil {
		return false, err
	}
	grain, err := io.ReadAll(unpacker)
	if err != nil {
		return false, err
	}
	_, err = out.WriteAt(grain, int64(value)*sector)
	return false, err
}

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// A client of SPDY/3.1 that costs next to nothing: its frames are written by hand, what comes is counted where it was
// read. client-go takes more processor time for a session than some servers: beside it a server's own time is lost.
// It asks for one thing a session, and reads one stream. (draft-mbelshe-httpbis-spdy-00, sections 2 and 3)

const (
	synStream  = 1
	rstStream  = 3
	ping       = 6
	goAway     = 7
	flagFin    = 1
	control    = 1 << 31
	version    = 3 << 16
	headerSize = 8
)

// A zlib stream (RFC 1950) that says it uses SPDY's dictionary, by its checksum, and then never does: its blocks are
// stored ones (RFC 1951, 3.2.4), so nothing is compressed.
var zlibHead = []byte{0x78, 0xbb, 0xe3, 0xc6, 0xa7, 0xc2}

// An empty block: a reader gives what it has.
var storedEnd = []byte{0, 0, 0, 0xff, 0xff}

// rawSession is one connection; `in` has what is not looked at yet.
type rawSession struct {
	net.Conn
	in   *bufio.Reader
	next uint32
	// Of the header blocks, which are one stream.
	begun bool
}

// openRaw upgrades a connection, which has not many streams.
func openRaw(found *url.URL, protocol string) (*rawSession, error) {
	connection, err := net.Dial("tcp", found.Host)
	if err != nil {
		return nil, err
	}
	s := &rawSession{Conn: connection, in: bufio.NewReaderSize(connection, 256<<10), next: 1}
	if err := s.upgrade(found, protocol); err != nil {
		connection.Close()
		return nil, err
	}
	return s, nil
}

func (s *rawSession) upgrade(found *url.URL, protocol string) error {
	asked := "POST " + found.RequestURI() + " HTTP/1.1\r\nHost: " + found.Host + "\r\nConnection: Upgrade\r\n" +
		"Upgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: " + protocol + "\r\nContent-Length: 0\r\n\r\n"
	if _, err := io.WriteString(s, asked); err != nil {
		return err
	}
	answer, err := http.ReadResponse(s.in, nil)
	if err != nil {
		return fmt.Errorf("the answer: %w", err)
	}
	if answer.StatusCode != http.StatusSwitchingProtocols {
		return fmt.Errorf("the answer: %s", answer.Status)
	}
	return nil
}

// open adds a frame that opens a stream to `out`, and gives the stream's number.
func (s *rawSession) open(out *bytes.Buffer, last bool, headers ...string) uint32 {
	block := binary.BigEndian.AppendUint32(nil, uint32(len(headers)/2))
	for _, text := range headers {
		block = binary.BigEndian.AppendUint32(block, uint32(len(text)))
		block = append(block, text...)
	}
	var packed []byte
	if !s.begun {
		packed, s.begun = append(packed, zlibHead...), true
	}
	packed = append(packed, 0)
	packed = binary.LittleEndian.AppendUint16(packed, uint16(len(block)))
	packed = binary.LittleEndian.AppendUint16(packed, ^uint16(len(block)))
	packed = append(packed, block...)
	packed = append(packed, storedEnd...)
	id := s.next
	s.next += 2
	frame := binary.BigEndian.AppendUint32(nil, control|version|synStream)
	frame = binary.BigEndian.AppendUint32(frame, flags(last)|uint32(10+len(packed)))
	frame = binary.BigEndian.AppendUint32(frame, id)
	frame = append(frame, make([]byte, 6)...)
	out.Write(append(frame, packed...))
	return id
}

func flags(last bool) uint32 {
	if last {
		return flagFin << 24
	}
	return 0
}

func put(out *bytes.Buffer, id uint32, last bool, data string) {
	var head [headerSize]byte
	binary.BigEndian.PutUint32(head[:], id)
	binary.BigEndian.PutUint32(head[4:], flags(last)|uint32(len(data)))
	out.Write(head[:])
	out.WriteString(data)
}

// drain counts what comes on one stream, to its end; once something has come it does `begun`. What others say is kept:
// they only speak of failures.
func (s *rawSession) drain(id uint32, into *meter, begun func() error) (others []byte, err error) {
	for {
		head, err := s.in.Peek(headerSize)
		if err != nil {
			return others, fmt.Errorf("a frame of stream %d: %w", id, err)
		}
		stream, length := binary.BigEndian.Uint32(head), int(binary.BigEndian.Uint32(head[4:])&0xffffff)
		last := head[4]&flagFin != 0
		s.in.Discard(headerSize)
		switch {
		case stream&control != 0:
			if err := s.controlled(stream&0xffff, length, id); err != nil {
				return others, err
			}
			continue
		case stream == id:
			isFirst := into.count == 0 && length > 0
			if err = s.count(length, into); err == nil && isFirst {
				err = begun()
			}
		default:
			rest := make([]byte, length)
			_, err = io.ReadFull(s.in, rest)
			others = append(others, rest...)
		}
		if err != nil || last && stream == id {
			return others, err
		}
	}
}

// controlled looks at what ends a stream before its time, and answers pings.
func (s *rawSession) controlled(kind uint32, length int, id uint32) error {
	body := make([]byte, length)
	if _, err := io.ReadFull(s.in, body); err != nil {
		return err
	}
	switch {
	case kind == rstStream && binary.BigEndian.Uint32(body) == id:
		return fmt.Errorf("stream %d was reset (%d)", id, binary.BigEndian.Uint32(body[4:]))
	case kind == goAway:
		return fmt.Errorf("the session ended before stream %d", id)
	case kind == ping:
		pong := binary.BigEndian.AppendUint32(nil, control|version|ping)
		_, err := s.Write(append(binary.BigEndian.AppendUint32(pong, 4), body...))
		return err
	}
	return nil
}

// count passes over bytes without a copy.
func (s *rawSession) count(length int, into *meter) error {
	for length > 0 {
		part, err := s.in.Peek(min(max(s.in.Buffered(), 1), length))
		if err != nil {
			return err
		}
		into.Write(part)
		length -= len(part)
		s.in.Discard(len(part))
	}
	return nil
}

// rawRun gives what a command writes to stdout.
func (s *source) rawRun(ctx context.Context, stdout *meter) error {
	found, err := s.command(ctx, "exec", streams{stdout: true})
	if err != nil {
		return err
	}
	session, err := openRaw(found, "v4.channel.k8s.io")
	if err != nil {
		return err
	}
	defer session.Close()
	var asked bytes.Buffer
	session.open(&asked, false, "streamtype", "error")
	id := session.open(&asked, false, "streamtype", "stdout")
	if _, err := session.Write(asked.Bytes()); err != nil {
		return err
	}
	_, err = session.drain(id, stdout, func() error { return nil })
	return err
}

// rawPage gives a page of a forwarded port. The connection is the session's only one.
func (s *rawSession) rawPage(path string, port int, into *meter) error {
	var asked bytes.Buffer
	request := strconv.Itoa(int(s.next))
	of := []string{"port", strconv.Itoa(port), "requestid", request, "streamtype"}
	s.open(&asked, true, append(of, "error")...)
	id := s.open(&asked, false, append(of, "data")...)
	put(&asked, id, false, "GET "+path+" HTTP/1.0\r\n\r\n")
	if _, err := s.Write(asked.Bytes()); err != nil {
		return err
	}
	// Nothing more will be asked: some servers wait a second for who does not say so.
	others, err := s.drain(id, into, func() error {
		var end bytes.Buffer
		put(&end, id, true, "")
		_, err := s.Write(end.Bytes())
		return err
	})
	if err == nil && len(others) > 0 {
		return fmt.Errorf("the other side: %s", others)
	}
	return err
}

func (s *source) rawForward(ctx context.Context) (*rawSession, error) {
	found, err := s.ports(ctx)
	if err != nil {
		return nil, err
	}
	return openRaw(found, "portforward.k8s.io")
}

func rawRateOfForward(ctx context.Context, o options, s *source) (times, error) {
	session, err := s.rawForward(ctx)
	if err != nil {
		return nil, err
	}
	defer session.Close()
	return each(o.count, func(m *meter) error {
		if err := session.rawPage("/large", o.port, m); err != nil {
			return err
		}
		// The page's head is counted, too.
		if m.count < o.bytes {
			return fmt.Errorf("%d bytes came, not %d", m.count, o.bytes)
		}
		return nil
	}, whole)
}

func rawFirstOfForward(ctx context.Context, o options, s *source) (times, error) {
	return each(o.count, func(m *meter) error {
		session, err := s.rawForward(ctx)
		if err != nil {
			return err
		}
		defer session.Close()
		return session.rawPage("/", o.port, m)
	}, toFirst)
}

// firstOfNothing: what no runtime can save, a call, a connection and a page that comes from the pod itself.
func firstOfNothing(ctx context.Context, o options, s *source) (times, error) {
	return each(o.count, func(m *meter) error {
		if _, err := s.runtime.Version(ctx, &cri.VersionRequest{}); err != nil {
			return err
		}
		return firstByte(o.address, m)
	}, toFirst)
}

func firstByte(address string, m *meter) error {
	connection, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer connection.Close()
	if _, err := io.WriteString(connection, "GET / HTTP/1.0\r\n\r\n"); err != nil {
		return err
	}
	_, err = io.CopyN(m, connection, 1)
	return err
}

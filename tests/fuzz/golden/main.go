// Command golden writes frames of SPDY/3.1 with github.com/moby/spdystream, which kubelets and clients are built
// with: `cd tests/fuzz/golden && go run .`
//
// frames.bin holds one of each kind from its framer, session.bin what a client says in a session against a server of
// its own. What they mean is in src/stream/spdy/codec/tests/golden.rs; the fuzzer begins with them.
package main

import (
	"bytes"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/moby/spdystream"
	"github.com/moby/spdystream/spdy"
)

const corpus = "../corpus/spdy_frames"

func main() {
	keep("frames.bin", frames())
	keep("session.bin", session())
}

func keep(name string, content []byte) {
	must(os.WriteFile(filepath.Join(corpus, name), content, 0o644))
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// header of one name each, since a map of Go's has no order.
func header(name string, values ...string) http.Header {
	return http.Header{name: values}
}

// frames: one of each kind; the header blocks are one zlib stream.
func frames() []byte {
	var out bytes.Buffer
	framer, err := spdy.NewFramer(&out, &out)
	must(err)
	long := strings.Repeat("0123456789abcdef", 500)
	for _, frame := range []spdy.Frame{
		&spdy.SynStreamFrame{StreamId: 1, Priority: 3, Headers: header("Streamtype", "error")},
		&spdy.SynStreamFrame{
			CFHeader: spdy.ControlFrameHeader{Flags: spdy.ControlFlagFin | spdy.ControlFlagUnidirectional},
			StreamId: 3, AssociatedToStreamId: 1, Headers: header("Port", "80", "443"),
		},
		&spdy.SynReplyFrame{StreamId: 1, Headers: http.Header{}},
		&spdy.HeadersFrame{StreamId: 1, Headers: header("X-Long", long)},
		&spdy.DataFrame{StreamId: 1, Data: []byte("some data")},
		&spdy.DataFrame{StreamId: 1, Flags: spdy.DataFlagFin, Data: nil},
		&spdy.SettingsFrame{FlagIdValues: []spdy.SettingsFlagIdValue{
			{Id: spdy.SettingsMaxConcurrentStreams, Value: 100},
			{Flag: spdy.FlagSettingsPersistValue, Id: spdy.SettingsInitialWindowSize, Value: 65536},
		}},
		&spdy.WindowUpdateFrame{StreamId: 1, DeltaWindowSize: 4096},
		&spdy.PingFrame{Id: 5},
		&spdy.RstStreamFrame{StreamId: 3, Status: spdy.Cancel},
		&spdy.GoAwayFrame{LastGoodStreamId: 3, Status: spdy.GoAwayOK},
	} {
		must(framer.WriteFrame(frame))
	}
	return out.Bytes()
}

// recorder keeps what is written to a connection.
type recorder struct {
	net.Conn
	lock    sync.Mutex
	written bytes.Buffer
}

func (r *recorder) Write(data []byte) (int, error) {
	r.lock.Lock()
	r.written.Write(data)
	r.lock.Unlock()
	return r.Conn.Write(data)
}

// session: a client opens two streams, is echoed, ends one and resets the other, pings, and closes.
func session() []byte {
	ours, theirs := net.Pipe()
	recorder := &recorder{Conn: ours}
	server, err := spdystream.NewConnection(theirs, true)
	must(err)
	go server.Serve(spdystream.MirrorStreamHandler)
	client, err := spdystream.NewConnection(recorder, false)
	must(err)
	go client.Serve(spdystream.NoOpStreamHandler)
	first := stream(client, "data")
	echoed(first, "hello, server")
	must(first.Close())
	_, err = io.ReadAll(first)
	must(err)
	second := stream(client, "error")
	echoed(second, "once more")
	must(second.Reset())
	_, err = client.Ping()
	must(err)
	must(client.Close())
	return recorder.written.Bytes()
}

func stream(client *spdystream.Connection, kind string) *spdystream.Stream {
	stream, err := client.CreateStream(header("Streamtype", kind), nil, false)
	must(err)
	must(stream.Wait())
	return stream
}

func echoed(stream *spdystream.Stream, text string) {
	_, err := stream.Write([]byte(text))
	must(err)
	_, err = io.ReadFull(stream, make([]byte, len(text)))
	must(err)
}

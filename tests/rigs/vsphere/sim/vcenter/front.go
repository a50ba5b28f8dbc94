package vcenter

import (
	"bytes"
	"crypto/tls"
	"io"
	"maps"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// front is the HTTPS server: what clients reach, or do not. It counts what they send, also what then fails.
type front struct {
	rig      *VCenter
	identity identity
	address  string
	mux      *http.ServeMux

	mu     sync.Mutex
	server *http.Server
	busy   bool // answers 503, as the proxy before a vCenter that is coming up
	calls  map[string]int
	conns  map[net.Conn]bool
	opened int
	peak   int
}

func newFront(v *VCenter, identity identity) (*front, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	registry := v.service.Context.Map
	v.service.RegisterSDK(registry, registry.Path+"/vimService")
	mux := v.service.ServeMux
	mux.HandleFunc(registry.Path+"/vimServiceVersions.xml", v.service.ServiceVersions)
	mux.Handle(guestFile, v.transfers)
	registry.SessionManager().ServiceHostName = address
	return &front{
		rig: v, identity: identity, address: address, mux: mux, calls: map[string]int{}, conns: map[net.Conn]bool{},
	}, nil
}

// open begins to listen. A front that does so already is left alone, but for being busy.
func (f *front) open(busy bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.busy = busy
	if f.server != nil {
		return nil
	}
	listener, err := net.Listen("tcp", f.address)
	if err != nil {
		return err
	}
	f.server = &http.Server{
		Handler: http.HandlerFunc(f.serve), ConnState: f.follow, ErrorLog: quiet, Protocols: f.protocols(),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{f.identity.tls}},
	}
	go func(server *http.Server) { _ = server.ServeTLS(listener, "", "") }(f.server)
	return nil
}

// protocols are HTTP/1.1 and, of a vCenter, HTTP/2 too: the proxy before it offers both. A host alone is spoken to as ever.
func (f *front) protocols() *http.Protocols {
	offered := new(http.Protocols)
	offered.SetHTTP1(true)
	offered.SetHTTP2(!f.rig.config.ESX)
	return offered
}

// close stops listening and cuts all connections.
func (f *front) close() {
	f.mu.Lock()
	server := f.server
	f.server = nil
	f.mu.Unlock()
	if server == nil {
		return
	}
	_ = server.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.conns) // the server says so of each a little later
}

func (f *front) follow(conn net.Conn, state http.ConnState) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch state {
	case http.StateNew:
		f.conns[conn] = true
		f.opened++
		f.peak = max(f.peak, len(f.conns))
	case http.StateClosed, http.StateHijacked:
		delete(f.conns, conn)
	}
}

// serve hands a call to the simulator, half of the latency before and half after it.
func (f *front) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	method := methodOf(r, body)
	if f.count(method) {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	time.Sleep(f.rig.latency() / 2)
	answer := &answer{ResponseWriter: w, status: http.StatusOK}
	f.pass(answer, r, f.rig.inTransit(method, vmOf(body)))
	time.Sleep(f.rig.latency() / 2)
	answer.send()
}

// pass is the way to the method and back, with what was planned for it.
func (f *front) pass(answer *answer, r *http.Request, planned string) {
	status, _ := strconv.Atoi(strings.TrimPrefix(planned, inTransit))
	switch {
	case planned == cut:
		panic(http.ErrAbortHandler)
	case planned == hang:
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	case status != 0:
		answer.WriteHeader(status)
		return
	}
	f.mux.ServeHTTP(answer, r)
	if planned == lost {
		panic(http.ErrAbortHandler)
	}
}

func (f *front) count(method string) (busy bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls[method]++
	return f.busy
}

// counted are all calls since the beginning, or since they were last taken to zero.
func (f *front) counted(reset bool) map[string]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	calls := maps.Clone(f.calls)
	if reset {
		clear(f.calls)
	}
	return calls
}

// connections are those that are open, all that were, and how many there were at once at the most.
func (f *front) connections() []int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return []int{len(f.conns), f.opened, f.peak}
}

var (
	called = regexp.MustCompile(`<(?:\w+:)?Body[^>]*>\s*<(?:\w+:)?(\w+)`)
	ofVM   = regexp.MustCompile(`<(?:\w+:)?(?:_this|vm)\b[^>]*>(vm-\d+|\d+)</`)
)

// methodOf is that of a SOAP call; of any other request, what it asks for.
func methodOf(r *http.Request, body []byte) string {
	if found := called.FindSubmatch(body); found != nil {
		return string(found[1])
	}
	return r.Method + " " + r.URL.Path
}

// vmOf is the id of the VM that a call is about.
func vmOf(body []byte) string {
	if found := ofVM.FindSubmatch(body); found != nil {
		return string(found[1])
	}
	return ""
}

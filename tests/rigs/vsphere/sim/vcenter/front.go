package vcenter

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"regexp"
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
	calls  map[string]int
	open_  map[net.Conn]bool
	opened int
}

func newFront(v *VCenter) (*front, error) {
	authority, err := newAuthority(v.config.Folder)
	if err != nil {
		return nil, err
	}
	identity, err := authority.issue("vcenter")
	if err != nil {
		return nil, err
	}
	f := &front{rig: v, identity: identity, calls: map[string]int{}, open_: map[net.Conn]bool{}}
	f.address, err = freeAddress()
	if err != nil {
		return nil, err
	}
	registry := v.service.Context.Map
	v.service.RegisterSDK(registry, registry.Path+"/vimService")
	f.mux = v.service.ServeMux
	f.mux.HandleFunc(registry.Path+"/vimServiceVersions.xml", v.service.ServiceVersions)
	v.service.Context.Map.SessionManager().ServiceHostName = f.address
	return f, nil
}

// open begins to listen; a front that listens already is left alone.
func (f *front) open() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.server != nil {
		return nil
	}
	listener, err := net.Listen("tcp", f.address)
	if err != nil {
		return err
	}
	f.server = &http.Server{Handler: http.HandlerFunc(f.serve), ConnState: f.follow}
	config := &tls.Config{Certificates: []tls.Certificate{f.identity.tls}}
	go func(server *http.Server) { _ = server.Serve(tls.NewListener(listener, config)) }(f.server)
	return nil
}

// close stops listening and cuts all connections.
func (f *front) close() {
	f.mu.Lock()
	server := f.server
	f.server = nil
	f.mu.Unlock()
	if server != nil {
		_ = server.Close()
	}
}

func (f *front) follow(conn net.Conn, state http.ConnState) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch state {
	case http.StateNew:
		f.open_[conn] = true
		f.opened++
	case http.StateClosed, http.StateHijacked:
		delete(f.open_, conn)
	}
}

// serve hands a call to the simulator, half of the latency before and half after it.
func (f *front) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	f.count(method(r, body))
	time.Sleep(f.rig.latency() / 2)
	answer := &answer{ResponseWriter: w, status: http.StatusOK}
	f.mux.ServeHTTP(answer, r)
	time.Sleep(f.rig.latency() / 2)
	answer.send()
}

func (f *front) count(method string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls[method]++
}

var called = regexp.MustCompile(`<(?:\w+:)?Body[^>]*>\s*<(?:\w+:)?(\w+)`)

// method is that of a SOAP call; of any other request, what it asks for.
func method(r *http.Request, body []byte) string {
	if found := called.FindSubmatch(body); found != nil {
		return string(found[1])
	}
	return r.Method + " " + r.URL.Path
}

// answer is held back until it is whole.
type answer struct {
	http.ResponseWriter

	status int
	body   bytes.Buffer
}

func (a *answer) WriteHeader(status int)         { a.status = status }
func (a *answer) Write(text []byte) (int, error) { return a.body.Write(text) }

func (a *answer) send() {
	a.ResponseWriter.WriteHeader(a.status)
	_, _ = a.ResponseWriter.Write(a.body.Bytes())
}

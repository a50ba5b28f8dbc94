package vcenter

import (
	"crypto/tls"
	"net"
	"net/http"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// host is the ESXi host where a vCenter's VMs run, as far as clients see it: files of guests come from there.
type host struct {
	rig     *VCenter
	address string
	server  *http.Server
}

func newHost(v *VCenter, identity identity) (*host, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	h := &host{rig: v, address: listener.Addr().String()}
	h.server = &http.Server{Handler: h, ErrorLog: quiet}
	config := &tls.Config{Certificates: []tls.Certificate{identity.tls}}
	go func() { _ = h.server.Serve(tls.NewListener(listener, config)) }()
	v.tellOf(identity)
	return h, nil
}

func (h *host) close() {
	_ = h.server.Close()
}

// ServeHTTP hands files over.
func (h *host) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.rig.front.count(r.Method + " " + r.URL.Path)
	time.Sleep(h.rig.latency())
	if r.URL.Path != guestFile {
		http.NotFound(w, r)
		return
	}
	h.rig.transfers.ServeHTTP(w, r)
}

// tellOf lets vCenter vouch for its hosts' certificate.
func (v *VCenter) tellOf(identity identity) {
	ctx := v.context()
	for _, entity := range ctx.Map.All("HostSystem") {
		host := entity.(*simulator.HostSystem)
		changes := []types.PropertyChange{{Name: "summary.config.sslThumbprint", Val: identity.sha1}}
		if host.Config != nil {
			changes = append(changes, types.PropertyChange{Name: "config.certificate", Val: identity.pem()})
		}
		ctx.Map.AtomicUpdate(ctx, host, changes)
	}
}

// fileServer is where guests' files are, as clients are told.
func (v *VCenter) fileServer() string {
	if v.config.ESX {
		_, port, _ := net.SplitHostPort(v.front.address)
		return "*:" + port
	}
	return v.host.address
}

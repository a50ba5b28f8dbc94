// Package vcenter makes govmomi's simulator a vCenter, or an ESXi host, whose guests behave as tests want them to.
package vcenter

import (
	"cmp"
	"context"
	"net/url"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"vmpower/tests/rigs/vsphere/sim/collector"
)

// Config is what the rig is told when it starts.
type Config struct {
	Folder   string               `json:"folder"` // all it ever writes
	VMs      map[string]Behaviour `json:"vms"`
	ESX      bool                 `json:"esx"`
	Latency  Seconds              `json:"latency"` // added to each call
	Username string               `json:"username"`
	Password string               `json:"password"`
}

// Ready says where it is when it has started.
type Ready struct {
	URL     string            `json:"url"`
	Control string            `json:"control"`
	CA      string            `json:"ca"`
	SHA1    string            `json:"sha1"`
	SHA256  string            `json:"sha256"`
	VMs     map[string]string `json:"vms"`
}

// VCenter is all of it.
type VCenter struct {
	config    Config
	model     *simulator.Model
	service   *simulator.Service
	front     *front
	control   *control
	collector *collector.PropertyCollector

	mu       sync.Mutex
	password string
	vms      map[string]*VM
}

// New starts a vCenter; it serves when this returns.
func New(config Config) (*VCenter, error) {
	v := &VCenter{config: config, password: config.Password, vms: map[string]*VM{}}
	if err := v.create(); err != nil {
		return nil, err
	}
	front, err := newFront(v)
	if err != nil {
		return nil, err
	}
	v.front = front
	v.service.Listen = &url.URL{Scheme: "https", Host: front.address, User: url.UserPassword(config.Username, "")}
	v.service.Context.Map.SessionManager().ValidLogin = v.validLogin
	if v.control, err = newControl(v); err != nil {
		return nil, err
	}
	return v, front.open()
}

// Close ends everything.
func (v *VCenter) Close() {
	v.front.close()
	v.control.close()
	v.model.Remove()
}

// Ready is what a client needs to know.
func (v *VCenter) Ready() Ready {
	return Ready{
		URL:     "https://" + v.front.address + "/sdk",
		Control: "http://" + v.control.address,
		CA:      v.front.identity.ca,
		SHA1:    v.front.identity.sha1,
		SHA256:  v.front.identity.sha256,
	}
}

// context is one of its own for whoever acts on nobody's behalf; locks belong to contexts.
func (v *VCenter) context() *simulator.Context {
	ctx := *v.service.Context
	ctx.Context = context.Background()
	return &ctx
}

func (v *VCenter) validLogin(login *types.Login) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return login.UserName == v.config.Username && login.Password == v.password
}

func (v *VCenter) vm(key string) *VM {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.vms[key]
}

func (v *VCenter) latency() time.Duration {
	return time.Duration(v.config.Latency)
}

func or(value, otherwise string) string {
	return cmp.Or(value, otherwise)
}

// Package vcenter makes govmomi's simulator a vCenter, or an ESXi host, whose guests behave as tests want them to.
//
// Where it is known to differ from a real one:
//
//   - What happens is told 10 ms later; a vCenter hears of it from its hosts, which takes it up to seconds.
//   - Tools notice once a second that a program has ended; here it is seen at once. Times are whole seconds in both.
//   - Real hosts answer with names and on port 443; here they are ports of 127.0.0.1.
//   - A guest that waits for an answer to a question accepts requests and does nothing. What a real one does is not
//     documented.
//   - Disabled methods are shown as far as power and tests disable them; a vCenter shows many more.
//   - Of a VM whose configuration cannot be read, its instance UUID alone is not shown.
//   - Files that a guest's programs write anywhere but below its own folder are the host's.
//   - Which privileges an account has is told, and nothing is refused for it.
//   - Events and tasks are there, but no alarms, DRS, HA or migrations.
package vcenter

import (
	"context"
	"net/url"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"vmpower/tests/rigs/vsphere/sim/collector"
	"vmpower/tests/rigs/vsphere/sim/guest"
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
	URL     string `json:"url"`
	Control string `json:"control"`
	CA      string `json:"ca"`
	SHA1    string `json:"sha1"`
	SHA256  string `json:"sha256"`
}

// VCenter is all of it.
type VCenter struct {
	config    Config
	model     *simulator.Model
	service   *simulator.Service
	front     *front
	host      *host // a vCenter's
	transfers *transfers
	guests    guests
	control   *control
	collector *collector.PropertyCollector

	plans    plans
	claims   claims
	adding   sync.Mutex // the inventory is changed by one at a time
	endings  endings
	mu       sync.Mutex
	back     *time.Timer // ends an outage
	password string
	denied   map[string][]string // privileges, by the keys of VMs
	vms      map[string]*VM
}

// New starts a vCenter; it serves when this returns.
func New(config Config) (*VCenter, error) {
	v := &VCenter{
		config:   config,
		password: config.Password,
		vms:      map[string]*VM{},
		plans:    plans{plan: plan{}},
		claims:   claims{taken: map[[2]string]bool{}},
		guests:   guests{all: map[string]*guest.Guest{}},
	}
	v.transfers = &transfers{rig: v, offered: map[string]transfer{}}
	if err := v.create(); err != nil {
		return nil, err
	}
	v.installGuestOperations()
	v.installRights()
	registry := v.service.Context.Map
	registry.SessionManager().ValidLogin = v.validLogin
	registry.Handler = v.before
	return v, v.listen()
}

// listen opens all that clients and tests reach.
func (v *VCenter) listen() error {
	authority, err := newAuthority(v.config.Folder)
	if err != nil {
		return err
	}
	identity, err := authority.issue("vcenter")
	if err != nil {
		return err
	}
	if v.front, err = newFront(v, identity); err != nil {
		return err
	}
	v.service.Listen = &url.URL{Scheme: "https", Host: v.front.address, User: url.UserPassword(v.config.Username, "")}
	if !v.config.ESX {
		identity, err := authority.issue("host")
		if err != nil {
			return err
		}
		if v.host, err = newHost(v, identity); err != nil {
			return err
		}
	}
	if v.control, err = newControl(v); err != nil {
		return err
	}
	return v.front.open(false)
}

// Close ends everything.
func (v *VCenter) Close() {
	v.front.close()
	if v.host != nil {
		v.host.close()
	}
	v.control.close()
	v.guests.powerOffAll()
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

// contextFor is one of somebody's.
func (v *VCenter) contextFor(user string) *simulator.Context {
	ctx := v.context()
	session := *ctx.Session
	session.UserName = user
	ctx.Session = &session
	return ctx
}

func (v *VCenter) vm(key string) *VM {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.vms[key]
}

// byID is the VM with this managed object id.
func (v *VCenter) byID(moid string) *VM {
	vm, _ := v.service.Context.Map.Get(types.ManagedObjectReference{Type: "VirtualMachine", Value: moid}).(*VM)
	return vm
}

func (v *VCenter) latency() time.Duration {
	return time.Duration(v.config.Latency)
}

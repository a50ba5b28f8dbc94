package vcenter

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"

	"github.com/vmware/govmomi/simulator"
)

// control is the way in for tests: POST /ACTION with JSON, on a loopback port of its own.
type control struct {
	rig     *VCenter
	address string
	server  *http.Server
}

type action func(v *VCenter, body []byte) (any, error)

var actions = map[string]action{
	"show":        forVM(func(v *VM, _ struct{}) (any, error) { return v.show(), nil }),
	"power":       forAll(func(v *VM, how string) error { return v.hand(how) }),
	"set":         forVM(func(v *VM, changes json.RawMessage) (any, error) { return nil, v.set(changes) }),
	"calls":       func(v *VCenter, _ []byte) (any, error) { return v.front.counted(false), nil },
	"reset_calls": func(v *VCenter, _ []byte) (any, error) { return v.front.counted(true), nil },
	"connections": func(v *VCenter, _ []byte) (any, error) { return v.front.connections(), nil },
}

func newControl(v *VCenter) (*control, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	c := &control{rig: v, address: listener.Addr().String()}
	c.server = &http.Server{Handler: http.HandlerFunc(c.serve)}
	go func() { _ = c.server.Serve(listener) }()
	return c, nil
}

func (c *control) close() {
	_ = c.server.Close()
}

func (c *control) serve(w http.ResponseWriter, r *http.Request) {
	result, err := c.act(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	_ = json.NewEncoder(w).Encode(result)
}

func (c *control) act(r *http.Request) (any, error) {
	act, ok := actions[r.URL.Path[1:]]
	if !ok {
		return nil, fmt.Errorf("there is no %s", r.URL.Path)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	return act(c.rig, body)
}

// forVM is an action on the VM that the JSON names by its key.
func forVM[T any](act func(*VM, T) (any, error)) action {
	return func(v *VCenter, body []byte) (any, error) {
		var request struct {
			VM   string `json:"vm"`
			With T      `json:"with"`
		}
		if err := Decode(body, &request); err != nil {
			return nil, err
		}
		vm := v.vm(request.VM)
		if vm == nil {
			return nil, fmt.Errorf("there is no VM %q", request.VM)
		}
		return act(vm, request.With)
	}
}

// forAll is an action on all VMs that the JSON names.
func forAll[T any](act func(*VM, T) error) action {
	return func(v *VCenter, body []byte) (any, error) {
		var request struct {
			VMs  []string `json:"vms"`
			With T        `json:"with"`
		}
		if err := Decode(body, &request); err != nil {
			return nil, err
		}
		for _, key := range request.VMs {
			vm := v.vm(key)
			if vm == nil {
				return nil, fmt.Errorf("there is no VM %q", key)
			}
			if err := act(vm, request.With); err != nil {
				return nil, err
			}
		}
		return nil, nil
	}
}

// shown is a VM as tests see it.
type shown struct {
	record

	MoID         string `json:"moid"`
	InstanceUUID string `json:"instance_uuid"`
	Power        string `json:"power"`
	Tools        string `json:"tools"`
}

func (v *VM) show() (s shown) {
	v.locked(func(*simulator.Context) {
		s = shown{
			record:       v.record,
			MoID:         v.Self.Value,
			InstanceUUID: v.Config.InstanceUuid,
			Power:        string(v.powerState()),
			Tools:        v.heard().running,
		}
		s.Asked = append([]call{}, v.record.Asked...)
	})
	return s
}

// set changes how it behaves from now on.
func (v *VM) set(changes []byte) (err error) {
	v.locked(func(ctx *simulator.Context) {
		var b Behaviour
		if b, err = v.b.changed(changes); err == nil {
			v.b = b
			v.publish(ctx)
		}
	})
	return err
}

// hand is a colleague's, on its plug.
func (v *VM) hand(how string) (err error) {
	v.locked(func(ctx *simulator.Context) {
		switch how {
		case "on":
			v.setOn(ctx)
		case "off":
			v.setOff(ctx, "hand")
		case "crash":
			v.setOff(ctx, "crash")
		case "suspend":
			v.setSuspended(ctx)
		default:
			err = fmt.Errorf("power: %q is none of on, off, crash, suspend", how)
		}
	})
	return err
}

func (f *front) counted(reset bool) map[string]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	calls := map[string]int{}
	for method, count := range f.calls {
		calls[method] = count
	}
	if reset {
		clear(f.calls)
	}
	return calls
}

func (f *front) connections() []int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return []int{len(f.open_), f.opened}
}

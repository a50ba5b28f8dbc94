package vcenter

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
)

// control is the way in for tests: POST /ACTION with JSON, on a loopback port of its own.
type control struct {
	rig     *VCenter
	address string
	server  *http.Server
}

// action does something; what it returns is the answer.
type action func(v *VCenter, body []byte) (any, error)

var actions = map[string]action{
	"show":        forVM(func(v *VM, _ struct{}) (any, error) { return v.show(), nil }),
	"set":         forVM(func(v *VM, changes json.RawMessage) (any, error) { return nil, v.set(changes) }),
	"rename":      forVM(func(v *VM, name string) (any, error) { return nil, v.rename(name) }),
	"move":        forVM(func(v *VM, folder string) (any, error) { return nil, v.move(folder) }),
	"remove":      forVM(func(v *VM, _ struct{}) (any, error) { return nil, v.remove() }),
	"power":       forAll(func(v *VM, how string) error { return v.hand(how) }),
	"add":         forAny(func(v *VCenter, vms map[string]Behaviour) error { return v.addAll(cast(vms)) }),
	"faults":      forAny(func(v *VCenter, faults plan) error { return v.plans.set(faults) }),
	"forget":      forAny(func(v *VCenter, _ struct{}) error { v.forgetTasks(); return nil }),
	"deny":        forAny(func(v *VCenter, denied map[string][]string) error { v.deny(denied); return nil }),
	"expire":      forAny(func(v *VCenter, _ struct{}) error { v.expire(); return nil }),
	"rotate":      forAny(func(v *VCenter, password string) error { v.rotate(password); return nil }),
	"go_away":     forAny(func(v *VCenter, how outage) error { return v.goAway(how) }),
	"come_back":   forAny(func(v *VCenter, _ struct{}) error { return v.comeBack() }),
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

// forAny is an action on all of the vCenter.
func forAny[T any](act func(*VCenter, T) error) action {
	return func(v *VCenter, body []byte) (any, error) {
		var with T
		if err := Decode(body, &with); err != nil {
			return nil, err
		}
		return nil, act(v, with)
	}
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
		vm, err := v.known(request.VM)
		if err != nil {
			return nil, err
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
			vm, err := v.known(key)
			if err != nil {
				return nil, err
			}
			if err := act(vm, request.With); err != nil {
				return nil, err
			}
		}
		return nil, nil
	}
}

func (v *VCenter) known(key string) (*VM, error) {
	if vm := v.vm(key); vm != nil {
		return vm, nil
	}
	return nil, fmt.Errorf("there is no VM %q", key)
}

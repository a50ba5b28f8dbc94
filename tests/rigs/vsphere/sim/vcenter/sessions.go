package vcenter

import (
	"reflect"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// expire ends all sessions, as an administrator or half an hour of silence would; who waits for updates is told.
func (v *VCenter) expire() {
	ctx := v.context()
	keys := v.sessions(ctx)
	v.collector.EndSessions(ctx, keys, &types.NotAuthenticated{
		NoPermission: types.NoPermission{Object: &v.collector.Self, PrivilegeId: "System.View"},
	})
	ctx.Map.SessionManager().TerminateSession(ctx, &types.TerminateSession{SessionId: keys})
}

func (v *VCenter) sessions(ctx *simulator.Context) (keys []string) {
	shown := ctx.Session.Get(ctx.Map.SessionManager().Self).(*simulator.SessionManager)
	for _, session := range shown.SessionList {
		keys = append(keys, session.Key)
	}
	return keys
}

// rotate changes the password; sessions that exist go on.
func (v *VCenter) rotate(password string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.password = password
}

func (v *VCenter) validLogin(login *types.Login) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return login.UserName == v.config.Username && login.Password == v.password
}

// before every call of a client: what was planned for it, and what the simulator lets everybody do.
func (v *VCenter) before(ctx *simulator.Context, method *simulator.Method) (mo.Reference, types.BaseMethodFault) {
	if fault := v.planned(method.Name); fault != nil {
		return nil, fault
	}
	switch {
	case ctx.Session == nil && reads(method) && !public[target(method).Type]:
		return nil, &types.NotAuthenticated{
			NoPermission: types.NoPermission{Object: &method.This, PrivilegeId: "System.View"},
		}
	case ctx.Session != nil && method.Name == "Logout":
		v.collector.EndSessions(ctx, []string{ctx.Session.Key}, &types.NotAuthenticated{})
	}
	return nil, nil
}

// public is what may be read without a session.
var public = map[string]bool{"ServiceInstance": true, "SessionManager": true}

func reads(method *simulator.Method) bool {
	switch method.Name {
	case "Fetch", "RetrieveProperties", "RetrievePropertiesEx":
		return true
	}
	return false
}

// target is the first object that is read.
func target(method *simulator.Method) types.ManagedObjectReference {
	var specs []types.PropertyFilterSpec
	switch body := method.Body.(type) {
	case *types.RetrieveProperties:
		specs = body.SpecSet
	case *types.RetrievePropertiesEx:
		specs = body.SpecSet
	default: // Fetch, whose type is the simulator's own
		this, _ := reflect.ValueOf(body).Elem().FieldByName("This").Interface().(types.ManagedObjectReference)
		return this
	}
	for _, spec := range specs {
		for _, set := range spec.ObjectSet {
			return set.Obj
		}
	}
	return types.ManagedObjectReference{}
}

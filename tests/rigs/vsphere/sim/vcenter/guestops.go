package vcenter

import (
	"errors"
	"os"
	"path/filepath"
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"vmpower/tests/rigs/vsphere/sim/guest"
)

// unlocked is for managers: calls of theirs do not wait for each other.
type unlocked struct{}

// Lock does nothing.
func (unlocked) Lock() {}

// Unlock does nothing.
func (unlocked) Unlock() {}

// installGuestOperations puts managers that work on real files and programs in the places of the simulator's.
func (v *VCenter) installGuestOperations() {
	ctx := v.context()
	operations := ctx.Map.Get(*v.model.ServiceContent.GuestOperationsManager).(*simulator.GuestOperationsManager)
	operations.AuthManager = &types.ManagedObjectReference{
		Type: "GuestAuthManager", Value: "guestOperationsAuthManager",
	}
	ctx.Map.Put(&authManager{GuestAuthManager: mo.GuestAuthManager{Self: *operations.AuthManager}, rig: v})
	ctx.Map.Put(&processManager{GuestProcessManager: mo.GuestProcessManager{Self: *operations.ProcessManager}, rig: v})
	ctx.Map.Put(&fileManager{GuestFileManager: mo.GuestFileManager{Self: *operations.FileManager}, rig: v})
}

// guests are the user lands of VMs by their ids, made when first somebody comes in.
type guests struct {
	sync.Mutex
	all map[string]*guest.Guest
}

func (g *guests) of(v *VM) (*guest.Guest, error) {
	g.Lock()
	defer g.Unlock()
	if known := g.all[v.Self.Value]; known != nil {
		return known, nil
	}
	executable, err := os.Executable()
	if err != nil {
		return nil, err
	}
	made, err := guest.New(
		filepath.Join(v.rig.config.Folder, "guests", v.Self.Value),
		filepath.Join(filepath.Dir(executable), "recorder"),
		v.b.Guest == "windows",
		v.b.Programs,
	)
	if err == nil {
		g.all[v.Self.Value] = made
	}
	return made, err
}

// known is nil if nobody came in yet.
func (g *guests) known(v *VM) *guest.Guest {
	g.Lock()
	defer g.Unlock()
	return g.all[v.Self.Value]
}

func (g *guests) powerOffAll() {
	g.Lock()
	defer g.Unlock()
	for _, known := range g.all {
		known.PowerOff()
	}
}

// enter is the user land of a VM, for somebody who may.
func (v *VCenter) enter(
	method string, ref types.ManagedObjectReference, auth types.BaseGuestAuthentication,
) (*VM, *guest.Guest, types.BaseMethodFault) {
	vm := v.byID(ref.Value)
	if vm == nil {
		return nil, nil, &types.ManagedObjectNotFound{Obj: ref}
	}
	var fault types.BaseMethodFault
	vm.locked(func(*simulator.Context) { fault = vm.admit(method, auth) })
	if fault != nil {
		return nil, nil, fault
	}
	inside, err := v.guests.of(vm)
	return vm, inside, vimFault(err, "")
}

func (v *VM) admit(method string, auth types.BaseGuestAuthentication) types.BaseMethodFault {
	fault, _ := v.asked(method)
	switch {
	case fault != nil:
		return fault
	case !v.isOn():
		return v.wrongPower(types.VirtualMachinePowerStatePoweredOn)
	case v.heard() != talking || v.b.Question != nil:
		return &types.GuestOperationsUnavailable{}
	case !v.knows(auth):
		return &types.InvalidGuestLogin{}
	}
	return nil
}

func (v *VM) knows(auth types.BaseGuestAuthentication) bool {
	login, ok := auth.(*types.NamePasswordAuthentication)
	return ok && Login{login.Username, login.Password} == v.b.GuestLogin
}

func userOf(auth types.BaseGuestAuthentication) string {
	login, _ := auth.(*types.NamePasswordAuthentication)
	return login.Username
}

// vimFault is how vCenter says what Tools say.
func vimFault(err error, path string) types.BaseMethodFault {
	file := types.FileFault{File: path}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, guest.ErrNotFound):
		return &types.FileNotFound{FileFault: file}
	case errors.Is(err, guest.ErrExists):
		return &types.FileAlreadyExists{FileFault: file}
	case errors.Is(err, guest.ErrNotDirectory):
		return &types.NotADirectory{FileFault: file}
	case errors.Is(err, guest.ErrOutside):
		return &types.CannotAccessFile{FileFault: file}
	case errors.Is(err, guest.ErrNotAllowed):
		return &types.GuestPermissionDenied{}
	case errors.Is(err, guest.ErrNoProcess):
		return &types.GuestProcessNotFound{}
	}
	return &types.SystemError{Reason: err.Error()}
}

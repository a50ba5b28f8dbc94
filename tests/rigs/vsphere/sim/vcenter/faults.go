package vcenter

import (
	"reflect"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// said is what vCenter says of a fault; of others it says nothing here.
var said = map[string]string{
	"DuplicateName":              "The name already exists.",
	"FileNotFound":               "File was not found",
	"GuestOperationsUnavailable": "The guest operations agent could not be contacted.",
	"GuestPermissionDenied":      "Permission to perform this operation was denied.",
	"GuestProcessNotFound":       "The process was not found.",
	"HostNotConnected":           "Unable to communicate with the remote host, since it is disconnected.",
	"InvalidGuestLogin":          "Failed to authenticate with the guest operating system using the supplied credentials.",
	"InvalidLogin":               "Cannot complete login due to an incorrect user name or password.",
	"InvalidPowerState":          "The attempted operation cannot be performed in the current state.",
	"InvalidState":               "The operation is not allowed in the current state.",
	"ManagedObjectNotFound":      "The object has already been deleted or has not been completely created",
	"MethodDisabled":             "The method is disabled.",
	"NoPermission":               "Permission to perform this operation was denied.",
	"NotAuthenticated":           "The session is not authenticated.",
	"NotSupported":               "The operation is not supported on the object.",
	"RequestCanceled":            "The request was canceled.",
	"TaskInProgress":             "The operation cannot be performed because another task is in progress.",
	"ToolsUnavailable":           "Cannot complete operation because VMware Tools is not running in this virtual machine.",
}

// newFault is an empty fault of the type with this name; nil, if there is none.
func newFault(name string) types.BaseMethodFault {
	kind, ok := types.TypeFunc()(name)
	if !ok {
		return nil
	}
	fault, _ := reflect.New(kind).Interface().(types.BaseMethodFault)
	return fault
}

func faultName(fault types.BaseMethodFault) string {
	return reflect.TypeOf(fault).Elem().Name()
}

func soapFault(fault types.BaseMethodFault) *soap.Fault {
	return simulator.Fault(said[faultName(fault)], fault)
}

// nextFault is what becomes of this call; the other says whether its task fails rather than itself.
func (v *VM) nextFault(method string) (fault types.BaseMethodFault, task bool) {
	name, task := strings.CutPrefix(v.b.Faults.take(method, inside), inTask)
	if name == "" || name == fine {
		return nil, false
	}
	return v.fill(newFault(name)), task
}

// fill adds what clients read in a fault.
func (v *VM) fill(fault types.BaseMethodFault) types.BaseMethodFault {
	switch fault := fault.(type) {
	case *types.InvalidPowerState:
		fault.ExistingState = v.Runtime.PowerState
	case *types.NoPermission:
		fault.Object, fault.PrivilegeId = &v.Self, "VirtualMachine.Interact.PowerOff"
	case *types.NotAuthenticated:
		fault.Object, fault.PrivilegeId = &v.Self, "System.View"
	case *types.ManagedObjectNotFound:
		fault.Obj = v.Self
	case *types.TaskInProgress:
		fault.Task = types.ManagedObjectReference{Type: "Task", Value: "task-0"}
		if v.busy != nil {
			fault.Task = *v.busy
		}
	}
	return fault
}

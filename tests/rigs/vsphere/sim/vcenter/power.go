package vcenter

import (
	"slices"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// asked notes a call, and says what speaks against it before anything of the VM is looked at.
func (v *VM) asked(method string) (fault types.BaseMethodFault, task bool) {
	v.record.Asked = append(v.record.Asked, call{method, now()})
	if fault, task := v.nextFault(method); fault != nil {
		return fault, task
	}
	if slices.Contains(v.b.DisabledMethods, method) {
		return &types.MethodDisabled{}, false
	}
	return nil, false
}

// ShutdownGuest asks the guest, which answers only by what it does.
func (v *VM) ShutdownGuest(ctx *simulator.Context, _ *types.ShutdownGuest) soap.HasFault {
	last := func(ctx *simulator.Context) { v.setOff(ctx, "guest") }
	if v.b.OnShutdown == "reboot" {
		last = v.boot
	}
	if fault := v.ask(ctx, "ShutdownGuest", last); fault != nil {
		return &methods.ShutdownGuestBody{Fault_: soapFault(fault)}
	}
	return &methods.ShutdownGuestBody{Res: &types.ShutdownGuestResponse{}}
}

// RebootGuest asks the guest to go down and to come up again; its power stays on.
func (v *VM) RebootGuest(ctx *simulator.Context, _ *types.RebootGuest) soap.HasFault {
	if fault := v.ask(ctx, "RebootGuest", v.boot); fault != nil {
		return &methods.RebootGuestBody{Fault_: soapFault(fault)}
	}
	return &methods.RebootGuestBody{Res: &types.RebootGuestResponse{}}
}

func (v *VM) ask(ctx *simulator.Context, method string, last func(*simulator.Context)) types.BaseMethodFault {
	fault, _ := v.asked(method)
	switch {
	case fault != nil:
		return fault
	case !v.isOn():
		return v.wrongPower(types.VirtualMachinePowerStatePoweredOn)
	case v.heard().running != talking.running:
		return &types.ToolsUnavailable{}
	case v.b.Refuses:
		return &types.InvalidState{}
	case v.phase == up && !v.b.Ignores && v.b.Question == nil:
		v.goDown(ctx, last)
	}
	return nil
}

// PowerOnVMTask gives it power; a suspended guest goes on where it was.
func (v *VM) PowerOnVMTask(ctx *simulator.Context, _ *types.PowerOnVM_Task) soap.HasFault {
	task, fault := v.power(ctx, "powerOn", 0, func(ctx *simulator.Context) types.BaseMethodFault {
		switch {
		case v.isOn():
			return v.wrongPower(types.VirtualMachinePowerStatePoweredOn)
		case v.phase == suspended:
			v.enter(ctx, up)
		default:
			v.setOn(ctx)
		}
		return nil
	})
	if fault != nil {
		return &methods.PowerOnVM_TaskBody{Fault_: soapFault(fault)}
	}
	return &methods.PowerOnVM_TaskBody{Res: &types.PowerOnVM_TaskResponse{Returnval: task}}
}

// PowerOffVMTask takes its power.
func (v *VM) PowerOffVMTask(ctx *simulator.Context, _ *types.PowerOffVM_Task) soap.HasFault {
	task, fault := v.power(ctx, "powerOff", v.b.PowerOffTime, func(ctx *simulator.Context) types.BaseMethodFault {
		if v.phase == off {
			return v.wrongPower(types.VirtualMachinePowerStatePoweredOff)
		}
		v.setOff(ctx, "power_off")
		return nil
	})
	if fault != nil {
		return &methods.PowerOffVM_TaskBody{Fault_: soapFault(fault)}
	}
	return &methods.PowerOffVM_TaskBody{Res: &types.PowerOffVM_TaskResponse{Returnval: task}}
}

// SuspendVMTask stops it, to go on later.
func (v *VM) SuspendVMTask(ctx *simulator.Context, _ *types.SuspendVM_Task) soap.HasFault {
	task, fault := v.power(ctx, "suspend", 0, func(ctx *simulator.Context) types.BaseMethodFault {
		if !v.isOn() {
			return v.wrongPower(types.VirtualMachinePowerStatePoweredOn)
		}
		v.setSuspended(ctx)
		return nil
	})
	if fault != nil {
		return &methods.SuspendVM_TaskBody{Fault_: soapFault(fault)}
	}
	return &methods.SuspendVM_TaskBody{Res: &types.SuspendVM_TaskResponse{Returnval: task}}
}

// ResetVMTask takes its power for a moment that nobody sees.
func (v *VM) ResetVMTask(ctx *simulator.Context, _ *types.ResetVM_Task) soap.HasFault {
	task, fault := v.power(ctx, "reset", 0, func(ctx *simulator.Context) types.BaseMethodFault {
		if !v.isOn() {
			return v.wrongPower(types.VirtualMachinePowerStatePoweredOn)
		}
		v.stir()
		v.boot(ctx)
		return nil
	})
	if fault != nil {
		return &methods.ResetVM_TaskBody{Fault_: soapFault(fault)}
	}
	return &methods.ResetVM_TaskBody{Res: &types.ResetVM_TaskResponse{Returnval: task}}
}

// power begins a power task, unless another is under way.
func (v *VM) power(ctx *simulator.Context, name string, takes Seconds, run func(*simulator.Context) types.BaseMethodFault) (types.ManagedObjectReference, types.BaseMethodFault) {
	fault, inTask := v.asked(methodOf[name])
	switch {
	case inTask:
		run = func(*simulator.Context) types.BaseMethodFault { return fault }
	case fault != nil:
		return types.ManagedObjectReference{}, fault
	case v.b.Template:
		return types.ManagedObjectReference{}, &types.NotSupported{}
	case v.busy != nil:
		return types.ManagedObjectReference{}, &types.TaskInProgress{Task: *v.busy}
	}
	return v.task(ctx, name, time.Duration(takes), run), nil
}

var methodOf = map[string]string{
	"powerOn": "PowerOnVM_Task", "powerOff": "PowerOffVM_Task", "suspend": "SuspendVM_Task", "reset": "ResetVM_Task",
}

func (v *VM) wrongPower(requested types.VirtualMachinePowerState) types.BaseMethodFault {
	return &types.InvalidPowerState{RequestedState: requested, ExistingState: v.powerState()}
}

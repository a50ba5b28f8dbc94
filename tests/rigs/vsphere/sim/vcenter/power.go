package vcenter

import (
	"slices"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// asked notes a call, and says what speaks against it before anything of the guest is looked at.
func (v *VM) asked(method string) (fault types.BaseMethodFault, task bool) {
	v.record.Asked = append(v.record.Asked, call{method, now()})
	switch fault, task := v.nextFault(method); {
	case fault != nil:
		return fault, task
	case slices.Contains(v.b.DisabledMethods, method):
		return &types.MethodDisabled{}, false
	case v.b.Connection == "disconnected":
		return &types.HostNotConnected{}, false
	case v.b.Connection != "connected":
		return &types.InvalidState{}, false
	}
	return nil, false
}

// ShutdownGuest asks the guest, which answers only by what it does.
func (v *VM) ShutdownGuest(ctx *simulator.Context, _ *types.ShutdownGuest) soap.HasFault {
	last := func(ctx *simulator.Context) { v.setOff(ctx, "guest") }
	switch v.b.OnShutdown {
	case "reboot":
		last = v.boot
	case "panic":
		last = v.panic
	}
	if fault := v.ask(ctx, "ShutdownGuest", guestShutdown, last); fault != nil {
		return &methods.ShutdownGuestBody{Fault_: soapFault(fault)}
	}
	return &methods.ShutdownGuestBody{Res: &types.ShutdownGuestResponse{}}
}

// RebootGuest asks the guest to go down and to come up again; its power stays on.
func (v *VM) RebootGuest(ctx *simulator.Context, _ *types.RebootGuest) soap.HasFault {
	if fault := v.ask(ctx, "RebootGuest", guestReboot, v.boot); fault != nil {
		return &methods.RebootGuestBody{Fault_: soapFault(fault)}
	}
	return &methods.RebootGuestBody{Res: &types.RebootGuestResponse{}}
}

// ask is a request to the guest: whether it is accepted, the event that vCenter makes of it, and what comes at last.
func (v *VM) ask(
	ctx *simulator.Context, method string, event func(types.VmEvent) types.BaseEvent, last func(*simulator.Context),
) types.BaseMethodFault {
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
	}
	v.post(ctx, event)
	if v.phase == up && !v.b.Ignores && v.b.Question == nil {
		v.goDown(ctx, last)
	}
	return nil
}

// StandbyGuest asks the guest to sleep.
func (v *VM) StandbyGuest(ctx *simulator.Context, _ *types.StandbyGuest) soap.HasFault {
	if fault := v.ask(ctx, "StandbyGuest", guestStandby, v.setSuspended); fault != nil {
		return &methods.StandbyGuestBody{Fault_: soapFault(fault)}
	}
	return &methods.StandbyGuestBody{Res: &types.StandbyGuestResponse{}}
}

// PowerOnVMTask gives it power; a suspended guest goes on where it was.
func (v *VM) PowerOnVMTask(ctx *simulator.Context, _ *types.PowerOnVM_Task) soap.HasFault {
	task, fault := v.power(ctx, "powerOn", 0, func(ctx *simulator.Context) types.BaseMethodFault {
		if v.isOn() {
			return v.wrongPower(types.VirtualMachinePowerStatePoweredOn)
		}
		v.setOn(ctx)
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
		v.post(ctx, resetting)
		return nil
	})
	if fault != nil {
		return &methods.ResetVM_TaskBody{Fault_: soapFault(fault)}
	}
	return &methods.ResetVM_TaskBody{Res: &types.ResetVM_TaskResponse{Returnval: task}}
}

// power begins a power task.
func (v *VM) power(
	ctx *simulator.Context, name string, takes Seconds, run func(*simulator.Context) types.BaseMethodFault,
) (types.ManagedObjectReference, types.BaseMethodFault) {
	return v.begin(ctx, name, takes, func(ctx *simulator.Context) (any, types.BaseMethodFault) { return nil, run(ctx) })
}

func (v *VM) wrongPower(requested types.VirtualMachinePowerState) types.BaseMethodFault {
	return &types.InvalidPowerState{RequestedState: requested, ExistingState: v.powerState()}
}

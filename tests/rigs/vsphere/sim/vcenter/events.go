package vcenter

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// post adds to vCenter's events, in the name of whoever acts.
func (v *VM) post(ctx *simulator.Context, of func(types.VmEvent) types.BaseEvent) {
	manager := ctx.Map.EventManager()
	ctx.WithLock(manager, func() {
		manager.PostEvent(ctx, &types.PostEvent{EventToPost: of(v.event(ctx))})
	})
}

func (v *VM) event(ctx *simulator.Context) types.VmEvent {
	event := types.VmEvent{Event: types.Event{
		Vm:   &types.VmEventArgument{EntityEventArgument: types.EntityEventArgument{Name: v.Name}, Vm: v.Self},
		Host: &types.HostEventArgument{},
	}}
	if host, ok := ctx.Map.Get(*v.Runtime.Host).(*simulator.HostSystem); ok {
		event.Host.Host, event.Host.Name = host.Self, host.Name
	}
	dc := datacenterOf(ctx, v)
	event.Datacenter = &types.DatacenterEventArgument{
		EntityEventArgument: types.EntityEventArgument{Name: dc.Name}, Datacenter: dc.Self,
	}
	return event
}

func datacenterOf(ctx *simulator.Context, entity mo.Entity) *mo.ManagedEntity {
	for entity.Reference().Type != "Datacenter" {
		entity = ctx.Map.Get(*entity.Entity().Parent).(mo.Entity)
	}
	return entity.Entity()
}

func poweredOn(e types.VmEvent) types.BaseEvent     { return &types.VmPoweredOnEvent{VmEvent: e} }
func poweredOff(e types.VmEvent) types.BaseEvent    { return &types.VmPoweredOffEvent{VmEvent: e} }
func suspendedVM(e types.VmEvent) types.BaseEvent   { return &types.VmSuspendedEvent{VmEvent: e} }
func resetting(e types.VmEvent) types.BaseEvent     { return &types.VmResettingEvent{VmEvent: e} }
func guestShutdown(e types.VmEvent) types.BaseEvent { return &types.VmGuestShutdownEvent{VmEvent: e} }
func guestReboot(e types.VmEvent) types.BaseEvent   { return &types.VmGuestRebootEvent{VmEvent: e} }
func guestCrashed(e types.VmEvent) types.BaseEvent  { return &types.VmGuestOSCrashedEvent{VmEvent: e} }
func guestStandby(e types.VmEvent) types.BaseEvent  { return &types.VmGuestStandbyEvent{VmEvent: e} }

package vcenter

import (
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// phase is what a guest is doing; power and tools follow from it.
type phase int

const (
	off phase = iota
	suspended
	booting  // powered on, and nothing of the guest answers
	starting // tools run their scripts
	up
	stopping // asked to shut down or reboot, services are ending
	halting  // tools are gone, power is still on
	crashed  // the guest has crashed, power is still on
)

// VM is a virtual machine with a guest that behaves. All of it belongs to the simulator's lock of the object:
// calls hold it already, everything else goes through `locked`.
type VM struct {
	*simulator.VirtualMachine

	rig    *VCenter
	key    string
	uuid   string // of the instance, also where its configuration cannot be read
	b      Behaviour
	phase  phase
	timer  *time.Timer
	epoch  int                           // a timer of an earlier one means nothing
	told   map[string]any                // properties, as clients know them
	busy   *types.ManagedObjectReference // the task that runs
	record record
}

// now is Python's time.time().
func now() float64 {
	return float64(time.Now().UnixNano()) / 1e9
}

func newVM(rig *VCenter, key string, inner *simulator.VirtualMachine, b Behaviour) *VM {
	v := &VM{VirtualMachine: inner, rig: rig, key: key, uuid: inner.Config.InstanceUuid, b: b, told: map[string]any{}}
	switch {
	case b.Template: // is always off
	case b.Power == "on":
		v.phase, v.record.OnAt = up, now()
	case b.Power == "suspended":
		v.phase, v.record.OnAt = suspended, now()
	}
	return v
}

// Get is the VM as clients are shown it. Disabled methods are shown here alone: the simulator would refuse them all
// in the same way, and vCenter says of those that the power state disables that the power state is wrong.
func (v *VM) Get() mo.Reference {
	shown := v.VirtualMachine.VirtualMachine
	shown.DisabledMethod = v.disabledMethods()
	return &shown
}

// locked runs f while nobody else is here, on nobody's behalf. It is not for calls of clients, which have the lock.
func (v *VM) locked(f func(ctx *simulator.Context)) {
	v.lockedFor("", f)
}

func (v *VM) lockedFor(user string, f func(ctx *simulator.Context)) {
	ctx := v.rig.contextFor(user)
	ctx.WithLock(v, func() { f(ctx) })
}

// after lets something happen later, unless anything else does before.
func (v *VM) after(delay time.Duration, then func(ctx *simulator.Context)) {
	epoch := v.stir()
	v.timer = time.AfterFunc(delay, func() {
		v.locked(func(ctx *simulator.Context) {
			if v.epoch == epoch {
				then(ctx)
			}
		})
	})
}

// stir forgets what was going to happen.
func (v *VM) stir() int {
	if v.timer != nil {
		v.timer.Stop()
	}
	v.epoch++
	return v.epoch
}

func (v *VM) enter(ctx *simulator.Context, phase phase) {
	v.phase = phase
	if inside := v.rig.guests.known(v); inside != nil && !v.runsPrograms() {
		inside.PowerOff()
	}
	v.publish(ctx)
}

func (v *VM) runsPrograms() bool {
	return v.phase == suspended || v.phase == starting || v.phase == up || v.phase == stopping
}

// boot is what a guest does when it has power, or has it again.
func (v *VM) boot(ctx *simulator.Context) {
	half := time.Duration(v.b.BootTime) / 2
	v.enter(ctx, booting)
	v.after(half, func(ctx *simulator.Context) {
		v.enter(ctx, starting)
		v.after(half, func(ctx *simulator.Context) { v.enter(ctx, up) })
	})
}

// goDown is what a guest does that was asked to.
func (v *VM) goDown(ctx *simulator.Context, last func(ctx *simulator.Context)) {
	half := time.Duration(v.b.ShutdownTime) / 2
	v.enter(ctx, stopping)
	v.after(half, func(ctx *simulator.Context) {
		v.enter(ctx, halting)
		v.after(half, last)
	})
}

func (v *VM) setOn(ctx *simulator.Context) {
	if v.phase == suspended {
		v.enter(ctx, up)
	} else {
		v.record.OnAt = now()
		v.boot(ctx)
	}
	v.post(ctx, poweredOn)
}

func (v *VM) setOff(ctx *simulator.Context, cause string) {
	v.stir()
	v.record.OffAt, v.record.OffCause = now(), cause
	v.enter(ctx, off)
	v.post(ctx, poweredOff)
}

// panic is what a guest does that crashes and stays as it is.
func (v *VM) panic(ctx *simulator.Context) {
	v.stir()
	v.post(ctx, guestCrashed)
	v.enter(ctx, crashed)
}

func (v *VM) setSuspended(ctx *simulator.Context) {
	v.stir()
	v.enter(ctx, suspended)
	v.post(ctx, suspendedVM)
}

func (v *VM) isOn() bool {
	return v.phase >= booting
}

func (v *VM) powerState() types.VirtualMachinePowerState {
	switch v.phase {
	case off:
		return types.VirtualMachinePowerStatePoweredOff
	case suspended:
		return types.VirtualMachinePowerStateSuspended
	}
	return types.VirtualMachinePowerStatePoweredOn
}

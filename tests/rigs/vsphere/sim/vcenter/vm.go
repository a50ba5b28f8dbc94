package vcenter

import (
	"time"

	"github.com/vmware/govmomi/simulator"
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
)

// VM is a virtual machine with a guest that behaves. All of it belongs to the simulator's lock of the object:
// calls hold it already, everything else goes through `locked`.
type VM struct {
	*simulator.VirtualMachine

	rig    *VCenter
	key    string
	b      Behaviour
	phase  phase
	timer  *time.Timer
	epoch  int // a timer of an earlier one means nothing
	told   map[string]any
	busy   *types.ManagedObjectReference // the power task that runs
	record record
}

// record is what happened to a VM, for tests.
type record struct {
	Asked    []call  `json:"asked_at"`
	OffAt    float64 `json:"off_at"`
	OnAt     float64 `json:"on_at"`
	OffCause string  `json:"off_cause"`
}

type call struct {
	Method string  `json:"method"`
	Time   float64 `json:"time"`
}

// now is Python's time.time().
func now() float64 {
	return float64(time.Now().UnixNano()) / 1e9
}

func newVM(rig *VCenter, key string, inner *simulator.VirtualMachine, b Behaviour) *VM {
	v := &VM{VirtualMachine: inner, rig: rig, key: key, b: b, told: map[string]any{}}
	switch b.Power {
	case "on":
		v.phase, v.record.OnAt = up, now()
	case "suspended":
		v.phase, v.record.OnAt = suspended, now()
	}
	return v
}

// locked runs f while nobody else is here. It is for timers and the control, not for calls of clients.
func (v *VM) locked(f func(ctx *simulator.Context)) {
	ctx := v.rig.context()
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
	v.publish(ctx)
}

// boot is what a guest does when it has power.
func (v *VM) boot(ctx *simulator.Context) {
	half := time.Duration(v.b.BootTime) / 2
	v.enter(ctx, booting)
	v.after(half, func(ctx *simulator.Context) {
		v.enter(ctx, starting)
		v.after(half, func(ctx *simulator.Context) { v.enter(ctx, up) })
	})
}

// goDown is what a guest does that was asked to; then comes `at last`.
func (v *VM) goDown(ctx *simulator.Context, last func(ctx *simulator.Context)) {
	half := time.Duration(v.b.ShutdownTime) / 2
	v.enter(ctx, stopping)
	v.after(half, func(ctx *simulator.Context) {
		v.enter(ctx, halting)
		v.after(half, last)
	})
}

func (v *VM) setOn(ctx *simulator.Context) {
	v.record.OnAt = now()
	v.boot(ctx)
}

func (v *VM) setOff(ctx *simulator.Context, cause string) {
	v.stir()
	v.record.OffAt, v.record.OffCause = now(), cause
	v.enter(ctx, off)
}

func (v *VM) setSuspended(ctx *simulator.Context) {
	v.stir()
	v.enter(ctx, suspended)
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

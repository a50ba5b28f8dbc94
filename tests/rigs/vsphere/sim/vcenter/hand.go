package vcenter

import (
	"fmt"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// set changes how a VM behaves from now on.
func (v *VM) set(changes []byte) (err error) {
	v.locked(func(ctx *simulator.Context) {
		if v.b, err = v.b.changed(changes); err == nil {
			v.publish(ctx)
		}
	})
	return err
}

// colleague is who has a hand on plugs.
const colleague = "colleague@vsphere.local"

// hand is a colleague's on its plug, at once and as a task of vCenter's; a crash, of the guest's process or of the guest
// in it, is nobody's.
func (v *VM) hand(how string) (err error) {
	switch how {
	case "crash":
		v.locked(func(ctx *simulator.Context) { v.setOff(ctx, "crash") })
		return nil
	case "panic":
		v.locked(v.panic)
		return nil
	}
	v.lockedFor(colleague, func(ctx *simulator.Context) {
		switch how {
		case "on":
			v.at(ctx, "powerOn", v.setOn)
		case "off":
			v.at(ctx, "powerOff", func(ctx *simulator.Context) { v.setOff(ctx, "hand") })
		case "suspend":
			v.at(ctx, "suspend", v.setSuspended)
		default:
			err = fmt.Errorf("power: %q is none of on, off, suspend, crash, panic", how)
		}
	})
	return err
}

func (v *VM) at(ctx *simulator.Context, task string, act func(*simulator.Context)) {
	v.finish(ctx, v.newTask(ctx, task), func(ctx *simulator.Context) (any, types.BaseMethodFault) {
		act(ctx)
		return nil, nil
	})
}

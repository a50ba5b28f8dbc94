package vcenter

import (
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// snapshot is one that was taken.
type snapshot struct {
	Name        string `json:"name"`
	Description string `json:"description"`
	Memory      bool   `json:"memory"`
	Quiesced    bool   `json:"quiesced"`
}

// CreateSnapshotTask takes one. Without tools, or with memory, nothing is quiesced, whatever was asked for.
func (v *VM) CreateSnapshotTask(ctx *simulator.Context, r *types.CreateSnapshot_Task) soap.HasFault {
	take := func(ctx *simulator.Context) (any, types.BaseMethodFault) {
		return v.takeSnapshot(ctx, snapshot{
			Name:        r.Name,
			Description: r.Description,
			Memory:      r.Memory && v.isOn(),
			Quiesced:    r.Quiesce && !r.Memory && v.heard() == talking,
		}), nil
	}
	task, fault := v.begin(ctx, "createSnapshot", v.b.SnapshotTime, take)
	if fault != nil {
		return &methods.CreateSnapshot_TaskBody{Fault_: soapFault(fault)}
	}
	return &methods.CreateSnapshot_TaskBody{Res: &types.CreateSnapshot_TaskResponse{Returnval: task}}
}

func (v *VM) takeSnapshot(ctx *simulator.Context, taken snapshot) types.ManagedObjectReference {
	object := ctx.Map.Put(&mo.VirtualMachineSnapshot{Vm: v.Self}).Reference()
	state := types.VirtualMachinePowerStatePoweredOff
	if taken.Memory {
		state = v.powerState()
	}
	v.record.Snapshots = append(v.record.Snapshots, taken)
	tree := types.VirtualMachineSnapshotTree{
		Snapshot: object, Vm: v.Self, Name: taken.Name, Description: taken.Description, State: state,
		Id: int32(len(v.record.Snapshots)), CreateTime: time.Now(), Quiesced: taken.Quiesced,
	}
	// A snapshot's parent is the one before it, but only the list of roots is kept here: nobody goes back to one.
	info := types.VirtualMachineSnapshotInfo{CurrentSnapshot: &object}
	if v.Snapshot != nil {
		info.RootSnapshotList = append(info.RootSnapshotList, v.Snapshot.RootSnapshotList...)
	}
	info.RootSnapshotList = append(info.RootSnapshotList, tree)
	ctx.Update(v, []types.PropertyChange{{Name: "snapshot", Val: info}})
	return object
}

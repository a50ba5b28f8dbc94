package vcenter

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// Above any number that the simulator gives.
var lastTask atomic.Int64

const firstTask = 1_000_000

// task is a task of vCenter's on a VM: running from now on, ended by `run`, which has the VM to itself.
//
// The simulator's own would hold the VM's lock, so that nobody could look at it, for as long as it runs.
func (v *VM) task(ctx *simulator.Context, name string, takes time.Duration, run func(*simulator.Context) types.BaseMethodFault) types.ManagedObjectReference {
	task := simulator.CreateTask(v, name, nil)
	task.Self = types.ManagedObjectReference{Type: "Task", Value: fmt.Sprintf("task-%d", firstTask+lastTask.Add(1))}
	start := time.Now()
	task.Info.Key, task.Info.Task, task.Info.EntityName = task.Self.Value, task.Self, v.Name
	task.Info.State, task.Info.StartTime = types.TaskInfoStateRunning, &start
	task.Info.Reason = &types.TaskReasonUser{UserName: ctx.Session.UserName}
	ctx.Map.Put(task)
	v.busy = &task.Self
	go v.finish(task, takes, run)
	return task.Self
}

func (v *VM) finish(task *simulator.Task, takes time.Duration, run func(*simulator.Context) types.BaseMethodFault) {
	time.Sleep(takes)
	changes := []types.PropertyChange{{Name: "info.state", Val: types.TaskInfoStateSuccess}}
	v.locked(func(ctx *simulator.Context) {
		if fault := run(ctx); fault != nil {
			changes = []types.PropertyChange{
				{Name: "info.state", Val: types.TaskInfoStateError},
				{Name: "info.error", Val: types.LocalizedMethodFault{Fault: fault, LocalizedMessage: said[faultName(fault)]}},
			}
		}
		v.busy = nil
	})
	changes = append(changes, types.PropertyChange{Name: "info.completeTime", Val: time.Now()})
	ctx := v.rig.context()
	ctx.Map.AtomicUpdate(ctx, task, changes)
}

func timeOf(seconds float64) time.Time {
	return time.Unix(0, int64(seconds*1e9)).UTC()
}

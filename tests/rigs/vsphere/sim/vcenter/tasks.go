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

// methodNames are those of the methods that begin tasks, by the tasks' names.
var methodNames = map[string]string{
	"powerOn": "PowerOnVM_Task", "powerOff": "PowerOffVM_Task", "suspend": "SuspendVM_Task", "reset": "ResetVM_Task",
	"createSnapshot": "CreateSnapshot_Task",
}

// outcome is how a task ends; it has the VM to itself.
type outcome func(*simulator.Context) (any, types.BaseMethodFault)

// begin is a call that starts a task on a VM, unless another is under way.
func (v *VM) begin(
	ctx *simulator.Context, name string, takes Seconds, run outcome,
) (types.ManagedObjectReference, types.BaseMethodFault) {
	fault, inTask := v.asked(methodNames[name])
	switch {
	case inTask:
		run = func(*simulator.Context) (any, types.BaseMethodFault) { return nil, fault }
	case fault != nil:
		return types.ManagedObjectReference{}, fault
	case v.b.Template:
		return types.ManagedObjectReference{}, &types.NotSupported{}
	case v.busy != nil:
		return types.ManagedObjectReference{}, &types.TaskInProgress{Task: *v.busy}
	}
	return v.task(ctx, name, time.Duration(takes), run), nil
}

// task is a task of vCenter's that runs from now on.
//
// The simulator's own would hold the VM's lock, so that nobody could look at it, for as long as it runs.
func (v *VM) task(ctx *simulator.Context, name string, takes time.Duration, run outcome) types.ManagedObjectReference {
	task := v.newTask(ctx, name)
	user := ctx.Session.UserName
	time.AfterFunc(takes, func() {
		v.lockedFor(user, func(ctx *simulator.Context) { v.finish(ctx, task, run) })
	})
	return task.Self
}

func (v *VM) newTask(ctx *simulator.Context, name string) *simulator.Task {
	task := simulator.CreateTask(v, name, nil)
	task.Self = types.ManagedObjectReference{Type: "Task", Value: fmt.Sprintf("task-%d", firstTask+lastTask.Add(1))}
	start := time.Now()
	task.Info.Key, task.Info.Task, task.Info.EntityName = task.Self.Value, task.Self, v.Name
	task.Info.Name = methodNames[name]
	task.Info.State, task.Info.StartTime = types.TaskInfoStateRunning, &start
	task.Info.Reason = &types.TaskReasonUser{UserName: ctx.Session.UserName}
	ctx.Map.Put(task)
	v.busy = &task.Self
	return task
}

func (v *VM) finish(ctx *simulator.Context, task *simulator.Task, run outcome) {
	result, fault := run(ctx)
	v.busy = nil
	changes := append(ended(result, fault), types.PropertyChange{Name: "info.completeTime", Val: time.Now()})
	ctx.Map.AtomicUpdate(ctx, task, changes)
}

func ended(result any, fault types.BaseMethodFault) []types.PropertyChange {
	if fault != nil {
		said := types.LocalizedMethodFault{Fault: fault, LocalizedMessage: said[faultName(fault)]}
		return []types.PropertyChange{
			{Name: "info.error", Val: said}, {Name: "info.state", Val: types.TaskInfoStateError},
		}
	}
	return []types.PropertyChange{
		{Name: "info.result", Val: result}, {Name: "info.state", Val: types.TaskInfoStateSuccess},
	}
}

func timeOf(seconds float64) time.Time {
	return time.Unix(0, int64(seconds*1e9)).UTC()
}

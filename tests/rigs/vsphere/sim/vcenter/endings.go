package vcenter

import (
	"fmt"
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// endings hears when tasks of the simulator's end; its own way to wait for them asks every 10 ms.
type endings struct {
	mu    sync.Mutex
	waits map[types.ManagedObjectReference]chan struct{}
}

// Reference is a name for the registry.
func (*endings) Reference() types.ManagedObjectReference {
	return types.ManagedObjectReference{Type: "Listener", Value: "endings"}
}

// PutObject does not matter.
func (*endings) PutObject(*simulator.Context, mo.Reference) {}

// RemoveObject does not matter.
func (*endings) RemoveObject(*simulator.Context, types.ManagedObjectReference) {}

// UpdateObject hears of a task that has ended.
func (e *endings) UpdateObject(_ *simulator.Context, object mo.Reference, _ []types.PropertyChange) {
	if task, ok := object.(*mo.Task); ok && hasEnded(task) {
		e.mu.Lock()
		defer e.mu.Unlock()
		if waits := e.waits[task.Self]; waits != nil {
			close(waits)
			delete(e.waits, task.Self)
		}
	}
}

func hasEnded(task *mo.Task) bool {
	return task.Info.State == types.TaskInfoStateSuccess || task.Info.State == types.TaskInfoStateError
}

// finished is the result of a task of the simulator's, when it has ended.
func (e *endings) finished(ctx *simulator.Context, ref types.ManagedObjectReference) (types.AnyType, error) {
	task := ctx.Map.Get(ref).(*simulator.Task)
	waits := make(chan struct{})
	own := &simulator.Context{Map: ctx.Map} // locks belong to contexts, and the task has the caller's
	own.WithLock(task, func() {
		if hasEnded(&task.Task) {
			close(waits)
			return
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		e.waits[ref] = waits
	})
	<-waits
	if task.Info.Error != nil {
		return nil, fmt.Errorf("%s", faultName(task.Info.Error.Fault))
	}
	return task.Info.Result, nil
}

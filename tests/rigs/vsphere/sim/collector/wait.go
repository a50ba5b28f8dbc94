package collector

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

const (
	most   = 100                   // objects in one answer, as with vCenter
	linger = 10 * time.Millisecond // after the first change, so that what happens together is told together
)

// wait is one call that waits for updates.
type wait struct {
	ctx    context.Context
	cancel func(types.BaseMethodFault)
}

// stopped is why a wait ended early.
type stopped struct{ fault types.BaseMethodFault }

func (stopped) Error() string { return "stopped" }

// WaitForUpdatesEx answers when something of the filters is other than in the version that the client knows.
func (pc *PropertyCollector) WaitForUpdatesEx(ctx *simulator.Context, r *types.WaitForUpdatesEx) soap.HasFault {
	options := r.Options
	if options == nil {
		options = &types.WaitOptions{}
	}
	pc.listen(ctx)
	wait, fault := pc.begin(r.Version)
	if fault != nil {
		return &methods.WaitForUpdatesExBody{Fault_: simulator.Fault("", fault)}
	}
	defer wait.cancel(nil)
	set, fault := pc.await(ctx, wait, limit(options.MaxObjectUpdates), options.MaxWaitSeconds)
	if fault != nil {
		return &methods.WaitForUpdatesExBody{Fault_: simulator.Fault("", fault)}
	}
	return &methods.WaitForUpdatesExBody{Res: &types.WaitForUpdatesExResponse{Returnval: set}}
}

// WaitForUpdates is the same without options.
func (pc *PropertyCollector) WaitForUpdates(ctx *simulator.Context, r *types.WaitForUpdates) soap.HasFault {
	answer := pc.WaitForUpdatesEx(ctx, &types.WaitForUpdatesEx{This: r.This, Version: r.Version})
	body := answer.(*methods.WaitForUpdatesExBody)
	if body.Fault_ != nil {
		return &methods.WaitForUpdatesBody{Fault_: body.Fault_}
	}
	return &methods.WaitForUpdatesBody{Res: &types.WaitForUpdatesResponse{Returnval: *body.Res.Returnval}}
}

// CancelWaitForUpdates ends the wait.
func (pc *PropertyCollector) CancelWaitForUpdates(*simulator.Context, *types.CancelWaitForUpdates) soap.HasFault {
	pc.mu.Lock()
	defer pc.mu.Unlock()
	if pc.wait != nil {
		pc.wait.cancel(&types.RequestCanceled{})
	}
	return &methods.CancelWaitForUpdatesBody{Res: &types.CancelWaitForUpdatesResponse{}}
}

// begin is one more wait, in place of an earlier one whose client may be gone.
func (pc *PropertyCollector) begin(version string) (*wait, types.BaseMethodFault) {
	pc.mu.Lock()
	defer pc.mu.Unlock()
	if pc.wait != nil {
		pc.wait.cancel(&types.RequestCanceled{})
	}
	if fault := pc.rewind(version); fault != nil {
		return nil, fault
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	pc.wait = &wait{ctx, func(fault types.BaseMethodFault) { cancel(stopped{fault}) }}
	return pc.wait, nil
}

// rewind: everything that the client cannot know in this version is to be told again.
func (pc *PropertyCollector) rewind(version string) types.BaseMethodFault {
	switch {
	case version == "":
		for _, filter := range pc.filters {
			filter.restart()
		}
	case version == strconv.Itoa(pc.version):
	case version == pc.known:
		for _, update := range pc.unsure {
			update.filter.retell(update)
		}
	default:
		return &types.InvalidCollectorVersion{}
	}
	pc.known, pc.unsure = version, nil
	return nil
}

// await is nil if there was nothing to tell in time.
func (pc *PropertyCollector) await(
	ctx *simulator.Context, wait *wait, max int, seconds *int32,
) (*types.UpdateSet, types.BaseMethodFault) {
	late := timer(seconds)
	for {
		if set := pc.collect(ctx, wait, max); set != nil || (seconds != nil && *seconds == 0) {
			return set, nil
		}
		select {
		case <-wait.ctx.Done():
			var why stopped
			errors.As(context.Cause(wait.ctx), &why)
			return nil, why.fault
		case <-late:
			return nil, nil
		case <-pc.wake:
			time.Sleep(linger)
		}
	}
}

// timer is one that never rings if nobody said when.
func timer(seconds *int32) <-chan time.Time {
	if seconds == nil {
		return nil
	}
	return time.After(time.Duration(*seconds) * time.Second)
}

// collect is all that there is to tell now, up to some objects.
func (pc *PropertyCollector) collect(ctx *simulator.Context, wait *wait, max int) *types.UpdateSet {
	var updates []update
	var more, current bool
	for !current {
		pc.select_(ctx)
		updates, more, current = pc.take(wait, max)
	}
	told := make([]types.ObjectUpdate, len(updates))
	for i, update := range updates {
		told[i] = update.tell(ctx)
	}
	if len(updates) == 0 {
		return nil
	}
	pc.mu.Lock()
	defer pc.mu.Unlock()
	pc.version++
	set := &types.UpdateSet{Version: strconv.Itoa(pc.version), FilterSet: byFilter(updates, told)}
	if more {
		set.Truncated = types.NewBool(true)
		pc.stir()
	}
	return set
}

// select_ makes stale selections anew, without the collector's lock.
func (pc *PropertyCollector) select_(ctx *simulator.Context) {
	pc.mu.Lock()
	var stale []*PropertyFilter
	for _, filter := range pc.filters {
		if filter.stale {
			filter.stale = false // from here on, what changes makes it stale again
			stale = append(stale, filter)
		}
	}
	pc.mu.Unlock()
	for _, filter := range stale {
		selected := filter.selects(ctx)
		pc.mu.Lock()
		filter.settle(selected)
		pc.mu.Unlock()
	}
}

// take is what to tell, and whether there is more; not current: an object came meanwhile, and is to be selected first.
//
// A task that began before its VM went off is so told with it or before. A wait that another took the place of gets
// nothing.
func (pc *PropertyCollector) take(wait *wait, max int) (updates []update, more, current bool) {
	pc.mu.Lock()
	defer pc.mu.Unlock()
	if pc.wait != wait || wait.ctx.Err() != nil {
		return nil, false, true
	}
	if slices.ContainsFunc(pc.filters, func(filter *PropertyFilter) bool { return filter.stale }) {
		return nil, false, false
	}
	for _, filter := range pc.filters {
		updates = append(updates, filter.take(max-len(updates))...)
		more = more || len(filter.changed) > 0
	}
	if len(updates) > 0 {
		pc.unsure = updates
	}
	return updates, more, true
}

func byFilter(updates []update, told []types.ObjectUpdate) (sets []types.PropertyFilterUpdate) {
	for i, update := range updates {
		if last := len(sets) - 1; last < 0 || sets[last].Filter != update.filter.Self {
			sets = append(sets, types.PropertyFilterUpdate{Filter: update.filter.Self})
		}
		last := &sets[len(sets)-1]
		last.ObjectSet = append(last.ObjectSet, told[i])
	}
	return sets
}

func limit(wanted int32) int {
	if wanted > 0 && wanted < most {
		return int(wanted)
	}
	return most
}

// Package collector gives govmomi's simulator a property collector whose updates cost what changed, as vCenter's do.
//
// The simulator's own collects every object of a filter again for each one that changed, so that 200 machines going
// off together would be told seconds late.
package collector

import (
	"slices"
	"sync"

	"github.com/google/uuid"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

type ref = types.ManagedObjectReference

// PropertyCollector is one of a session. The one in the registry is the model after which the simulator makes each
// session's, as an empty value; it also knows all that listen.
type PropertyCollector struct {
	simulator.PropertyCollector // retrieving is left to it

	// The lock is never held while one of an object is awaited: changes come from those who hold the object's.
	mu      sync.Mutex
	session string
	filters []*PropertyFilter
	gone    map[ref]bool // objects that were removed; the simulator says so before it does
	wake    chan struct{}
	wait    *wait
	version int
	known   string   // the version that the client had when it asked last
	unsure  []update // told since then, in an answer that may never have arrived

	live sync.Map // of the model: *PropertyCollector -> true
}

// Install puts the collector and views that follow the inventory into a registry.
func Install(registry *simulator.Registry, content types.ServiceContent) *PropertyCollector {
	model := &PropertyCollector{}
	model.Self = content.PropertyCollector
	registry.Put(model)
	registry.Put(&ViewManager{ViewManager: registry.ViewManager()})
	return model
}

// CreatePropertyCollector makes one more for the session.
func (pc *PropertyCollector) CreatePropertyCollector(ctx *simulator.Context, _ *types.CreatePropertyCollector) soap.HasFault {
	return &methods.CreatePropertyCollectorBody{Res: &types.CreatePropertyCollectorResponse{
		Returnval: ctx.Session.Put(&PropertyCollector{}).Reference(),
	}}
}

// DestroyPropertyCollector ends it, and whoever waits.
func (pc *PropertyCollector) DestroyPropertyCollector(ctx *simulator.Context, c *types.DestroyPropertyCollector) soap.HasFault {
	pc.end(ctx, &types.RequestCanceled{})
	for _, filter := range pc.filters {
		ctx.Session.Remove(ctx, filter.Self)
	}
	ctx.Session.Remove(ctx, c.This)
	return &methods.DestroyPropertyCollectorBody{Res: &types.DestroyPropertyCollectorResponse{}}
}

// CreateFilter begins to follow the objects and properties of a specification.
func (pc *PropertyCollector) CreateFilter(ctx *simulator.Context, c *types.CreateFilter) soap.HasFault {
	filter := &PropertyFilter{pc: pc, members: map[ref]*member{}, stale: true}
	filter.Spec, filter.PartialUpdates = c.Spec, c.PartialUpdates
	if fault := filter.check(ctx); fault != nil {
		return &methods.CreateFilterBody{Fault_: simulator.Fault("", fault)}
	}
	self := ctx.Session.Put(filter).Reference()
	pc.listen(ctx)
	pc.mu.Lock()
	defer pc.mu.Unlock()
	pc.filters = append(pc.filters, filter)
	pc.Filter = append(pc.Filter, self)
	pc.stir()
	return &methods.CreateFilterBody{Res: &types.CreateFilterResponse{Returnval: self}}
}

func (pc *PropertyCollector) forget(ctx *simulator.Context, filter *PropertyFilter) {
	pc.mu.Lock()
	defer pc.mu.Unlock()
	pc.filters = slices.DeleteFunc(pc.filters, func(f *PropertyFilter) bool { return f == filter })
	pc.unsure = slices.DeleteFunc(pc.unsure, func(u update) bool { return u.filter == filter })
	simulator.RemoveReference(&pc.Filter, filter.Self)
	ctx.Session.Remove(ctx, filter.Self)
}

// listen begins with the first filter: until then there is nothing to hear.
func (pc *PropertyCollector) listen(ctx *simulator.Context) {
	pc.mu.Lock()
	defer pc.mu.Unlock()
	if pc.wake != nil {
		return
	}
	pc.session, pc.wake, pc.gone = ctx.Session.Key, make(chan struct{}, 1), map[ref]bool{}
	model(ctx).live.Store(pc, &listener{pc: pc, self: ref{Type: "Listener", Value: uuid.NewString()}})
	ctx.Map.AddHandler(pc.listener(ctx))
}

func (pc *PropertyCollector) listener(ctx *simulator.Context) *listener {
	found, _ := model(ctx).live.Load(pc)
	return found.(*listener)
}

// end lets nobody hear of anything any more; who waits is told why.
func (pc *PropertyCollector) end(ctx *simulator.Context, fault types.BaseMethodFault) {
	pc.mu.Lock()
	defer pc.mu.Unlock()
	if pc.wait != nil {
		pc.wait.cancel(fault)
	}
	if found, ok := model(ctx).live.LoadAndDelete(pc); ok {
		ctx.Map.RemoveHandler(found.(*listener))
	}
}

// EndSessions ends all collectors of these sessions, with a fault for those who wait.
func (pc *PropertyCollector) EndSessions(ctx *simulator.Context, keys []string, fault types.BaseMethodFault) {
	pc.live.Range(func(found, _ any) bool {
		if collector := found.(*PropertyCollector); slices.Contains(keys, collector.session) {
			collector.end(ctx, fault)
		}
		return true
	})
}

func model(ctx *simulator.Context) *PropertyCollector {
	content := ctx.Map.Get(ref{Type: "ServiceInstance", Value: "ServiceInstance"}).(*simulator.ServiceInstance).Content
	return ctx.Map.Get(content.PropertyCollector).(*PropertyCollector)
}

// listener hears of changes for a collector. It has a name of its own: the sessions' collectors all bear the same.
type listener struct {
	pc   *PropertyCollector
	self ref
}

func (l *listener) Reference() ref { return l.self }

// PutObject hears of a new object, or of one in a new place.
func (l *listener) PutObject(_ *simulator.Context, object mo.Reference) {
	if _, ok := object.(mo.Entity); ok {
		l.pc.heard(func(f *PropertyFilter) bool { return f.moved() })
	}
}

// RemoveObject hears of one that goes.
func (l *listener) RemoveObject(_ *simulator.Context, object ref) {
	l.pc.mu.Lock()
	l.pc.gone[object] = true
	l.pc.mu.Unlock()
	l.pc.heard(func(f *PropertyFilter) bool { return f.leave(object) })
}

// UpdateObject hears of changes. Only what changed is noted here: values are read when they are told.
func (l *listener) UpdateObject(_ *simulator.Context, object mo.Reference, changes []types.PropertyChange) {
	l.pc.heard(func(f *PropertyFilter) bool { return f.note(object.Reference(), changes) })
}

// heard lets each filter note something, and wakes who waits if there is anything to tell.
func (pc *PropertyCollector) heard(note func(*PropertyFilter) bool) {
	pc.mu.Lock()
	defer pc.mu.Unlock()
	for _, filter := range pc.filters {
		if note(filter) {
			pc.stir()
		}
	}
}

func (pc *PropertyCollector) stir() {
	select {
	case pc.wake <- struct{}{}:
	default:
	}
}

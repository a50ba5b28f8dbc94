package collector

import (
	"slices"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// PropertyFilter follows some objects for a collector, whose lock guards it.
type PropertyFilter struct {
	mo.PropertyFilter

	pc      *PropertyCollector
	members map[ref]*member
	changed []ref         // members with something to tell, first come first told
	nodes   map[node]bool // what the selection went through
	stale   bool          // the selection has to be made anew
}

// member is an object of the filter.
type member struct {
	entered bool     // the client was told that it is there
	left    bool     // it is there no longer
	paths   []string // what changed
	queued  bool
}

// node is a property that leads to other objects.
type node struct {
	object ref
	path   string
}

// DestroyPropertyFilter ends it.
func (f *PropertyFilter) DestroyPropertyFilter(ctx *simulator.Context, _ *types.DestroyPropertyFilter) soap.HasFault {
	f.pc.forget(ctx, f)
	return &methods.DestroyPropertyFilterBody{Res: &types.DestroyPropertyFilterResponse{}}
}

// check refuses what vCenter refuses: objects and properties that do not exist.
func (f *PropertyFilter) check(ctx *simulator.Context) types.BaseMethodFault {
	for _, set := range f.Spec.ObjectSet {
		if ctx.Session.Get(set.Obj) == nil && !isTrue(f.Spec.ReportMissingObjectsInResults) {
			return &types.ManagedObjectNotFound{Obj: set.Obj}
		}
	}
	for _, set := range f.Spec.PropSet {
		for _, path := range set.PathSet {
			if !exists(set.Type, path) {
				return &types.InvalidProperty{Name: path}
			}
		}
	}
	return nil
}

// moved: something is in a new place, which may matter to whoever selects by places.
func (f *PropertyFilter) moved() bool {
	f.stale = f.stale || len(f.nodes) > 0
	return f.stale
}

// note remembers which of its properties changed.
func (f *PropertyFilter) note(object ref, changes []types.PropertyChange) bool {
	heard := false
	member := f.members[object]
	for _, change := range changes {
		name, _, _ := strings.Cut(change.Name, "[")
		heard = f.leads(object, name) || heard
		if member == nil || member.left {
			continue
		}
		for _, path := range f.paths(object) {
			if within(name, path) || within(path, name) {
				member.add(f.granular(name, path))
				f.queue(object, member)
				heard = true
			}
		}
	}
	return heard
}

// leads: the change is of a property that leads to other objects, so that the selection is stale.
func (f *PropertyFilter) leads(object ref, name string) bool {
	for seen := range f.nodes {
		if seen.object == object && (within(name, seen.path) || within(seen.path, name)) {
			f.stale = true
			return true
		}
	}
	return false
}

// granular is what to tell of a change: all of the property that was asked for, or only the part that changed.
func (f *PropertyFilter) granular(name, path string) string {
	if f.PartialUpdates && within(name, path) {
		return name
	}
	return path
}

// leave: an object is there no longer.
func (f *PropertyFilter) leave(object ref) bool {
	member := f.members[object]
	if member == nil || member.left {
		return false
	}
	member.left, member.paths = true, nil
	f.queue(object, member)
	return true
}

func (f *PropertyFilter) queue(object ref, member *member) {
	if !member.queued {
		member.queued = true
		f.changed = append(f.changed, object)
	}
}

// settle takes over a new selection: who is in it and was not enters, who was and is not leaves.
func (f *PropertyFilter) settle(selected *selection) {
	f.nodes = selected.nodes
	for object := range f.members {
		if !selected.seen[object] {
			f.leave(object)
		}
	}
	for _, object := range selected.objects {
		if f.pc.gone[object] {
			continue
		}
		if known := f.members[object]; known == nil || known.left {
			f.enter(object, known)
		}
	}
}

// enter tells all of an object; one that left and came back before that was told has only changed.
func (f *PropertyFilter) enter(object ref, known *member) {
	if known == nil {
		known = &member{}
		f.members[object] = known
	}
	known.left = false
	known.paths = slices.Clone(f.paths(object))
	f.queue(object, known)
}

// paths are the properties that were asked for of objects of its type.
func (f *PropertyFilter) paths(object ref) []string {
	for _, set := range f.Spec.PropSet {
		if isA(object.Type, set.Type) {
			if isTrue(set.All) {
				return allProperties(object.Type)
			}
			return set.PathSet
		}
	}
	return nil
}

// concerns: somebody asked for properties of such objects.
func (f *PropertyFilter) concerns(object ref) bool {
	return slices.ContainsFunc(f.Spec.PropSet, func(set types.PropertySpec) bool { return isA(object.Type, set.Type) })
}

func (m *member) add(path string) {
	if !slices.Contains(m.paths, path) {
		m.paths = append(m.paths, path)
	}
}

// within: the property is the other one, or a part of it.
func within(name, whole string) bool {
	return name == whole || strings.HasPrefix(name, whole+".")
}

func isTrue(flag *bool) bool {
	return flag != nil && *flag
}

package collector

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// update is what an answer tells of one object: which properties, not their values.
type update struct {
	filter *PropertyFilter
	object ref
	kind   types.ObjectUpdateKind
	paths  []string
}

// take is what there is to tell, of so many objects.
func (f *PropertyFilter) take(max int) (updates []update) {
	taken := 0
	for _, object := range f.changed {
		if len(updates) == max {
			break
		}
		taken++
		if update, ok := f.update(object); ok {
			updates = append(updates, update)
		}
	}
	f.changed = f.changed[taken:]
	return updates
}

func (f *PropertyFilter) update(object ref) (update, bool) {
	member := f.members[object]
	told := update{f, object, types.ObjectUpdateKindModify, member.paths}
	known := member.entered
	if !known {
		told.kind = types.ObjectUpdateKindEnter
	}
	if member.left {
		told.kind, told.paths = types.ObjectUpdateKindLeave, nil
		delete(f.members, object)
		return told, known
	}
	member.entered, member.queued, member.paths = true, false, nil
	return told, true
}

// tell is the update with the values of now.
func (u update) tell(ctx *simulator.Context) types.ObjectUpdate {
	told := types.ObjectUpdate{Kind: u.kind, Obj: u.object}
	for _, p := range read(ctx, u.object, u.paths...) {
		if u.kind == types.ObjectUpdateKindEnter && p.state != present {
			continue // what is unset is not told of
		}
		told.ChangeSet = append(told.ChangeSet, types.PropertyChange{Name: p.path, Op: operations[p.state], Val: p.value})
	}
	return told
}

var operations = map[state]types.PropertyChangeOp{
	present: types.PropertyChangeOpAssign,
	unset:   types.PropertyChangeOpRemove,
	lost:    types.PropertyChangeOpIndirectRemove,
}

// restart: the client knows nothing.
func (f *PropertyFilter) restart() {
	f.members, f.changed, f.stale = map[ref]*member{}, nil, true
}

// retell: the client may not know of this update.
func (f *PropertyFilter) retell(u update) {
	known := f.members[u.object]
	if known == nil {
		if u.kind == types.ObjectUpdateKindLeave {
			known = &member{entered: true, left: true}
			f.members[u.object] = known
			f.queue(u.object, known)
		}
		return
	}
	if u.kind == types.ObjectUpdateKindEnter {
		known.entered = false
	}
	if !known.left {
		for _, path := range u.paths {
			known.add(path)
		}
		f.queue(u.object, known)
	}
}

package collector

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// selection is what a filter's specification selects now.
type selection struct {
	ctx     *simulator.Context
	filter  *PropertyFilter
	named   map[string]*types.TraversalSpec
	objects []ref
	seen    map[ref]bool
	nodes   map[node]bool
}

// selects goes through the objects; each is locked while it is looked at.
func (f *PropertyFilter) selects(ctx *simulator.Context) *selection {
	s := &selection{
		ctx: ctx, filter: f, named: map[string]*types.TraversalSpec{}, seen: map[ref]bool{}, nodes: map[node]bool{},
	}
	for _, set := range f.Spec.ObjectSet {
		s.name(set.SelectSet)
	}
	for _, set := range f.Spec.ObjectSet {
		if !isTrue(set.Skip) {
			s.add(set.Obj)
		}
		s.follow(set.Obj, set.SelectSet)
	}
	return s
}

// name collects specifications that others refer to by name.
func (s *selection) name(specs []types.BaseSelectionSpec) {
	for _, spec := range specs {
		if traversal, ok := spec.(*types.TraversalSpec); ok {
			if traversal.Name != "" {
				s.named[traversal.Name] = traversal
			}
			s.name(traversal.SelectSet)
		}
	}
}

func (s *selection) follow(object ref, specs []types.BaseSelectionSpec) {
	for _, spec := range specs {
		traversal := s.traversal(spec)
		if traversal == nil || !isA(object.Type, traversal.Type) {
			continue
		}
		at := node{object, traversal.Path}
		if s.nodes[at] && traversal.Name != "" {
			continue // been there: named specifications may go round in circles
		}
		s.nodes[at] = true
		for _, next := range references(s.ctx, object, traversal.Path) {
			if !isTrue(traversal.Skip) {
				s.add(next)
			}
			s.follow(next, traversal.SelectSet)
		}
	}
}

func (s *selection) traversal(spec types.BaseSelectionSpec) *types.TraversalSpec {
	if traversal, ok := spec.(*types.TraversalSpec); ok {
		return traversal
	}
	return s.named[spec.GetSelectionSpec().Name]
}

func (s *selection) add(object ref) {
	if !s.seen[object] && s.filter.concerns(object) && s.ctx.Session.Get(object) != nil {
		s.seen[object] = true
		s.objects = append(s.objects, object)
	}
}

// references are those in a property of an object.
func references(ctx *simulator.Context, object ref, path string) (found []ref) {
	switch value := read(ctx, object, path)[0].value.(type) {
	case ref:
		return []ref{value}
	case *types.ArrayOfManagedObjectReference:
		return append(found, value.ManagedObjectReference...)
	}
	return nil
}

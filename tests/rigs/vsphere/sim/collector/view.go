package collector

import (
	"slices"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// ViewManager makes views that follow what is moved, too; the simulator's own follow only what is made and removed.
type ViewManager struct {
	*simulator.ViewManager
}

// CreateContainerView is a view of what is below an object.
func (m *ViewManager) CreateContainerView(ctx *simulator.Context, r *types.CreateContainerView) soap.HasFault {
	if ctx.Map.Get(r.Container) == nil {
		return &methods.CreateContainerViewBody{
			Fault_: simulator.Fault("", &types.ManagedObjectNotFound{Obj: r.Container}),
		}
	}
	view := &ContainerView{registry: ctx.Map}
	view.Container, view.Type, view.Recursive = r.Container, r.Type, r.Recursive
	self := ctx.Session.Put(view).Reference()
	return &methods.CreateContainerViewBody{Res: &types.CreateContainerViewResponse{Returnval: self}}
}

// ContainerView is made anew each time that somebody looks.
type ContainerView struct {
	mo.ContainerView

	registry *simulator.Registry
}

// DestroyView forgets it.
func (v *ContainerView) DestroyView(ctx *simulator.Context, r *types.DestroyView) soap.HasFault {
	ctx.Session.Remove(ctx, r.This)
	return &methods.DestroyViewBody{Res: &types.DestroyViewResponse{}}
}

// Get is the view as it is now; the simulator and the collector ask for it.
func (v *ContainerView) Get() mo.Reference {
	walk := &walk{ctx: &simulator.Context{Map: v.registry}, view: v, seen: map[ref]bool{}}
	walk.below(v.Container)
	shown := v.ContainerView
	shown.View = walk.found
	return &shown
}

type walk struct {
	ctx   *simulator.Context
	view  *ContainerView
	seen  map[ref]bool
	found []ref
}

func (w *walk) below(object ref) {
	for _, child := range w.children(object) {
		if w.seen[child] {
			continue
		}
		w.seen[child] = true
		if w.shows(child) {
			w.found = append(w.found, child)
		}
		if w.view.Recursive {
			w.below(child)
		}
	}
}

func (w *walk) shows(object ref) bool {
	wanted := w.view.Type
	return len(wanted) == 0 || slices.ContainsFunc(wanted, func(kind string) bool { return isA(object.Type, kind) })
}

func (w *walk) children(object ref) (children []ref) {
	if object.Type == "VirtualMachine" {
		return nil // of the many there are, not one has any
	}
	found := w.ctx.Map.Get(object)
	if found == nil {
		return nil
	}
	w.ctx.WithLock(found, func() { children = slices.Clone(childrenOf(managed(found).Addr().Interface())) })
	return children
}

func childrenOf(object any) []ref {
	switch o := object.(type) {
	case *mo.Datacenter:
		return []ref{o.VmFolder, o.HostFolder, o.DatastoreFolder, o.NetworkFolder}
	case *mo.Folder:
		return o.ChildEntity
	case *mo.ComputeResource:
		return append(slices.Clone(o.Host), *o.ResourcePool)
	case *mo.ClusterComputeResource:
		return append(slices.Clone(o.Host), *o.ResourcePool)
	case *mo.ResourcePool:
		return append(slices.Clone(o.ResourcePool), o.Vm...)
	case *mo.HostSystem:
		return o.Vm
	}
	return nil
}

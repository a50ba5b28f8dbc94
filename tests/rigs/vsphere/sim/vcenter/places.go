package vcenter

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// place is where a VM belongs: a datacenter by its name, a folder and a resource pool by their paths in it.
type place struct {
	datacenter, folder, pool string
}

const firstDatacenter = "DC0"

func (b Behaviour) place() place {
	return place{b.Datacenter, b.Folder, b.Pool}
}

// datacenters are the names of all that VMs belong to, and the first.
func datacenters(vms map[string]Behaviour) []string {
	others := map[string]bool{}
	for _, b := range vms {
		if b.Datacenter != "" && b.Datacenter != firstDatacenter {
			others[b.Datacenter] = true
		}
	}
	return append([]string{firstDatacenter}, slices.Sorted(maps.Keys(others))...)
}

// nameDatacenters renames those that the simulator called DC0, DC1 and so on.
func (v *VCenter) nameDatacenters(names []string) {
	ctx := v.context()
	for _, entity := range ctx.Map.All("Datacenter") {
		dc := entity.Entity()
		for i, name := range names {
			if dc.Name == fmt.Sprintf("DC%d", i) {
				dc.Name = name
				break
			}
		}
	}
}

// find is the folder and the pool of a place; those it lacks are made.
func (v *VCenter) find(ctx *simulator.Context, place place) (*simulator.Folder, types.ManagedObjectReference, error) {
	dc := v.datacenter(ctx, place.datacenter)
	if dc == nil {
		return nil, types.ManagedObjectReference{}, fmt.Errorf("there is no datacenter %q", place.datacenter)
	}
	folder := ctx.Map.Get(dc.VmFolder).(*simulator.Folder)
	for _, name := range parts(place.folder) {
		folder = subfolder(ctx, folder, name)
	}
	pool := rootPool(ctx, dc)
	for _, name := range parts(place.pool) {
		pool = subpool(ctx, pool, name)
	}
	return folder, pool.Self, nil
}

func (v *VCenter) datacenter(ctx *simulator.Context, name string) *simulator.Datacenter {
	for _, entity := range ctx.Map.All("Datacenter") {
		if v.config.ESX || entity.Entity().Name == cmp.Or(name, firstDatacenter) {
			return entity.(*simulator.Datacenter)
		}
	}
	return nil
}

func subfolder(ctx *simulator.Context, folder *simulator.Folder, name string) *simulator.Folder {
	if found, ok := ctx.Map.FindByName(name, folder.ChildEntity).(*simulator.Folder); ok {
		return found
	}
	made := folder.CreateFolder(ctx, &types.CreateFolder{This: folder.Self, Name: name}).(*methods.CreateFolderBody)
	return ctx.Map.Get(made.Res.Returnval).(*simulator.Folder)
}

func rootPool(ctx *simulator.Context, dc *simulator.Datacenter) *simulator.ResourcePool {
	hosts := ctx.Map.Get(dc.HostFolder).(*simulator.Folder)
	var pool *types.ManagedObjectReference
	switch compute := ctx.Map.Get(hosts.ChildEntity[0]).(type) {
	case *simulator.ClusterComputeResource:
		pool = compute.ResourcePool
	case *mo.ComputeResource:
		pool = compute.ResourcePool
	}
	return ctx.Map.Get(*pool).(*simulator.ResourcePool)
}

func subpool(ctx *simulator.Context, pool *simulator.ResourcePool, name string) *simulator.ResourcePool {
	if found, ok := ctx.Map.FindByName(name, pool.ResourcePool.ResourcePool).(*simulator.ResourcePool); ok {
		return found
	}
	request := &types.CreateResourcePool{This: pool.Self, Name: name, Spec: types.DefaultResourceConfigSpec()}
	made := pool.CreateResourcePool(ctx, request).(*methods.CreateResourcePoolBody)
	return ctx.Map.Get(made.Res.Returnval).(*simulator.ResourcePool)
}

// claims are the names that are taken, by folders: the simulator does not mind two of the same.
type claims struct {
	sync.Mutex
	taken map[[2]string]bool
}

func (c *claims) claim(folder types.ManagedObjectReference, name string) error {
	c.Lock()
	defer c.Unlock()
	key := [2]string{folder.Value, name}
	if c.taken[key] {
		return fmt.Errorf("DuplicateName: %q", name)
	}
	c.taken[key] = true
	return nil
}

func (c *claims) release(folder types.ManagedObjectReference, name string) {
	c.Lock()
	defer c.Unlock()
	delete(c.taken, [2]string{folder.Value, name})
}

func parts(path string) []string {
	return strings.FieldsFunc(path, func(c rune) bool { return c == '/' })
}

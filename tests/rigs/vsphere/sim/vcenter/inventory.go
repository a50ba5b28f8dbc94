package vcenter

import (
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"vmpower/tests/rigs/vsphere/sim/collector"
)

// How many VMs are made at once; the simulator waits in each for its own tasks, by polling.
const makers = 64

// create builds the model and all VMs.
func (v *VCenter) create() error {
	v.model = simulator.VPX()
	if v.config.ESX {
		v.model = simulator.ESX()
	}
	v.model.Machine, v.model.Portgroup, v.model.Host, v.model.ClusterHost = 0, 0, 0, 1
	if v.config.ESX {
		v.model.ClusterHost = 0
	}
	v.model.ServiceContent.About = about(v.model.ServiceContent.About)
	if err := v.model.Create(); err != nil {
		return err
	}
	v.service = v.model.Service
	v.collector = collector.Install(v.service.Context.Map, v.model.ServiceContent)
	return v.addAll(cast(v.config.VMs))
}

// about is the version that clients see: one of vSphere 8.
func about(about types.AboutInfo) types.AboutInfo {
	about.Version, about.ApiVersion, about.Build = "8.0.2", "8.0.2.0", "22617221"
	about.FullName = fmt.Sprintf("%s %s build-%s", about.Name, about.Version, about.Build)
	return about
}

// cast is each single VM by its key.
func cast(vms map[string]Behaviour) map[string]Behaviour {
	all := map[string]Behaviour{}
	for key, b := range vms {
		if b.Count == 1 {
			all[key] = b
			continue
		}
		for n := 1; n <= b.Count; n++ {
			all[fmt.Sprintf("%s-%04d", key, n)] = b
		}
	}
	return all
}

func (v *VCenter) addAll(vms map[string]Behaviour) error {
	keys := make(chan string)
	failed := make(chan error, len(vms))
	var group sync.WaitGroup
	for range makers {
		group.Go(func() {
			for key := range keys {
				failed <- v.add(key, vms[key])
			}
		})
	}
	for _, key := range slices.Sorted(maps.Keys(vms)) {
		keys <- key
	}
	close(keys)
	group.Wait()
	close(failed)
	for err := range failed {
		if err != nil {
			return err
		}
	}
	return nil
}

// add makes one VM.
func (v *VCenter) add(key string, b Behaviour) error {
	ctx := v.context()
	place, err := v.place(ctx, b)
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	request := &types.CreateVM_Task{This: place.folder.Self, Pool: place.pool, Config: types.VirtualMachineConfigSpec{
		Name:    or(b.Name, key),
		GuestId: "otherGuest",
		Files:   &types.VirtualMachineFileInfo{VmPathName: "[LocalDS_0]"},
	}}
	body := place.folder.CreateVMTask(ctx, request).(*methods.CreateVM_TaskBody)
	task := ctx.Map.Get(body.Res.Returnval).(*simulator.Task)
	task.Wait()
	if task.Info.Error != nil {
		return fmt.Errorf("%s: %s", key, faultName(task.Info.Error.Fault))
	}
	v.adopt(key, task.Info.Result.(types.ManagedObjectReference), b)
	return nil
}

// adopt puts a guest that behaves into a VM of the simulator's.
func (v *VCenter) adopt(key string, ref types.ManagedObjectReference, b Behaviour) {
	ctx := v.context()
	vm := newVM(v, key, ctx.Map.Get(ref).(*simulator.VirtualMachine), b)
	ctx.WithLock(vm, func() {
		vm.publish(ctx)
		ctx.Map.Put(vm)
	})
	v.mu.Lock()
	defer v.mu.Unlock()
	v.vms[key] = vm
}

// place is where a VM belongs.
type place struct {
	folder *simulator.Folder
	pool   types.ManagedObjectReference
}

func (v *VCenter) place(ctx *simulator.Context, b Behaviour) (place, error) {
	for _, entity := range ctx.Map.All("Datacenter") {
		dc := entity.(*simulator.Datacenter)
		folder := ctx.Map.Get(dc.VmFolder).(*simulator.Folder)
		pool := ctx.Map.Any("ResourcePool").(mo.Entity).Reference()
		return place{folder, pool}, nil
	}
	return place{}, fmt.Errorf("there is no datacenter %q", b.Datacenter)
}

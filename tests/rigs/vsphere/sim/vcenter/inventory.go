package vcenter

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"vmpower/tests/rigs/vsphere/sim/collector"
)

// create builds the model and all VMs.
func (v *VCenter) create() error {
	vms := cast(v.config.VMs)
	v.model = model(v.config.ESX, datacenters(vms))
	if err := v.model.Create(); err != nil {
		return err
	}
	v.service = v.model.Service
	v.collector = collector.Install(v.service.Context.Map, v.model.ServiceContent)
	v.endings.waits = map[types.ManagedObjectReference]chan struct{}{}
	v.service.Context.Map.AddHandler(&v.endings)
	v.nameDatacenters(datacenters(vms))
	if err := v.addAll(vms); err != nil {
		return err
	}
	v.forgetTasks()
	return nil
}

// forgetTasks: a vCenter that has been up for a while no longer shows those that made its VMs, and ten minutes after the
// last one none at all. Clients that follow them are not told.
func (v *VCenter) forgetTasks() {
	ctx := v.context()
	for _, task := range ctx.Map.AllReference("Task") {
		ctx.Map.Remove(ctx, task.Reference())
	}
	for _, entity := range ctx.Map.All("") {
		entity.Entity().RecentTask = nil
	}
	ctx.Map.Get(*v.model.ServiceContent.TaskManager).(*simulator.TaskManager).RecentTask = nil
}

// model is one of the simulator's, empty: a cluster with one host in each datacenter.
func model(esx bool, datacenters []string) *simulator.Model {
	model := simulator.VPX()
	model.Datacenter, model.ClusterHost = len(datacenters), 1
	if esx {
		model = simulator.ESX()
	}
	model.Machine, model.Portgroup, model.Host = 0, 0, 0
	about := &model.ServiceContent.About
	about.Version, about.ApiVersion, about.Build = "8.0.2", "8.0.2.0", "22617221"
	about.FullName = fmt.Sprintf("%s %s build-%s", about.Name, about.Version, about.Build)
	return model
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

// addAll makes VMs one after the other: the simulator's ways to make some at once step on each other's toes.
func (v *VCenter) addAll(vms map[string]Behaviour) error {
	v.adding.Lock()
	defer v.adding.Unlock()
	for _, key := range slices.Sorted(maps.Keys(vms)) {
		if err := v.add(key, vms[key]); err != nil {
			return err
		}
	}
	return nil
}

// add makes one VM.
func (v *VCenter) add(key string, b Behaviour) error {
	if v.vm(key) != nil {
		return fmt.Errorf("there is a VM %q", key)
	}
	ctx := v.context()
	folder, pool, err := v.find(ctx, b.place())
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	name := cmp.Or(b.Name, key)
	if err := v.claims.claim(folder.Self, name); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	request := &types.CreateVM_Task{This: folder.Self, Pool: pool, Config: types.VirtualMachineConfigSpec{
		Name:    name,
		GuestId: string(types.VirtualMachineGuestOsIdentifierOtherGuest),
		Files:   &types.VirtualMachineFileInfo{VmPathName: "[LocalDS_0]"},
	}}
	result, err := v.endings.finished(ctx, folder.CreateVMTask(ctx, request).(*methods.CreateVM_TaskBody).Res.Returnval)
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	v.adopt(key, result.(types.ManagedObjectReference), b)
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

// remove takes a VM out of the inventory, as it is.
func (v *VM) remove() (err error) {
	v.locked(func(ctx *simulator.Context) {
		v.stir()
		v.Runtime.PowerState = types.VirtualMachinePowerStatePoweredOff // the simulator would not remove it otherwise
		if fault := v.UnregisterVM(ctx, &types.UnregisterVM{This: v.Self}).Fault(); fault != nil {
			err = fmt.Errorf("%s", fault.String)
		}
	})
	if inside := v.rig.guests.known(v); inside != nil {
		inside.PowerOff()
	}
	v.rig.claims.release(*v.Parent, v.Name)
	v.rig.mu.Lock()
	defer v.rig.mu.Unlock()
	delete(v.rig.vms, v.key)
	return err
}

// rename gives it a name that nobody in its folder has.
func (v *VM) rename(name string) (err error) {
	v.locked(func(ctx *simulator.Context) {
		if err = v.rig.claims.claim(*v.Parent, name); err != nil {
			return
		}
		v.rig.claims.release(*v.Parent, v.Name)
		ctx.Update(v, []types.PropertyChange{
			{Name: "name", Val: name}, {Name: "config.name", Val: name}, {Name: "summary.config.name", Val: name},
		})
	})
	return err
}

// move puts it into another folder of its datacenter.
func (v *VM) move(path string) error {
	v.rig.adding.Lock()
	defer v.rig.adding.Unlock()
	ctx := v.rig.context()
	folder, _, err := v.rig.find(ctx, place{datacenter: v.b.Datacenter, folder: path})
	if err != nil {
		return err
	}
	if err := v.rig.claims.claim(folder.Self, v.Name); err != nil {
		return err
	}
	v.rig.claims.release(*v.Parent, v.Name)
	request := &types.MoveIntoFolder_Task{This: folder.Self, List: []types.ManagedObjectReference{v.Self}}
	body := folder.MoveIntoFolderTask(ctx, request).(*methods.MoveIntoFolder_TaskBody)
	if _, err := v.rig.endings.finished(ctx, body.Res.Returnval); err != nil {
		return err
	}
	v.locked(func(ctx *simulator.Context) { // the simulator moves it without a word
		ctx.Update(v, []types.PropertyChange{{Name: "parent", Val: folder.Self}})
	})
	return nil
}

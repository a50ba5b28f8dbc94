package collector_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// A client that loses answers, asks for small ones, and follows VMs that change, come and go, in any order.
func TestWhateverIsLostOnTheWayTheClientEndsWithTheTruth(t *testing.T) {
	for seed := range uint64(10) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			s := &story{following: newLab(t, 5).follow(false, name...), random: rand.New(rand.NewPCG(seed, 0))}
			s.known = map[types.ManagedObjectReference]string{}
			for range 60 {
				s.happen()
				s.ask(s.random.IntN(3) == 0)
			}
			for s.ask(false) {
			}
			if truth := s.truth(); !maps.Equal(s.known, truth) {
				t.Fatalf("the client knows\n%v, but there is\n%v", s.known, truth)
			}
		})
	}
}

type story struct {
	*following

	random *rand.Rand
	known  map[types.ManagedObjectReference]string
	made   int
}

func (s *story) happen() {
	if len(s.vms) == 0 || s.random.IntN(8) == 0 {
		s.make()
		return
	}
	i := s.random.IntN(len(s.vms))
	if s.random.IntN(8) == 0 {
		ctx := *s.model.Service.Context
		s.powerOff(s.vms[i])
		ctx.WithLock(s.vms[i], func() { s.vms[i].UnregisterVM(&ctx, &types.UnregisterVM{This: s.vms[i].Self}) })
		s.vms = append(s.vms[:i], s.vms[i+1:]...)
		return
	}
	s.made++
	s.change(s.vms[i], types.PropertyChange{Name: "name", Val: fmt.Sprintf("name-%d", s.made)})
}

func (s *story) make() {
	s.made++
	ctx := *s.model.Service.Context
	folder := ctx.Map.Get(ctx.Map.Any("Datacenter").(*simulator.Datacenter).VmFolder).(*simulator.Folder)
	body := folder.CreateVMTask(&ctx, &types.CreateVM_Task{
		This: folder.Self,
		Pool: ctx.Map.Any("ResourcePool").Reference(),
		Config: types.VirtualMachineConfigSpec{
			Name: fmt.Sprintf("made-%d", s.made), GuestId: "otherGuest",
			Files: &types.VirtualMachineFileInfo{VmPathName: "[LocalDS_0]"},
		},
	}).(*methods.CreateVM_TaskBody)
	task := ctx.Map.Get(body.Res.Returnval).(*simulator.Task)
	task.Wait()
	s.vms = append(s.vms, ctx.Map.Get(task.Info.Result.(types.ManagedObjectReference)).(*simulator.VirtualMachine))
}

// ask takes an answer over, unless it gets lost; it returns whether there was one.
func (s *story) ask(lost bool) bool {
	set, err := s.following.ask(s.version, types.WaitOptions{
		MaxWaitSeconds: types.NewInt32(0), MaxObjectUpdates: int32(1 + s.random.IntN(4)),
	})
	must(s.T, err)
	if set == nil || lost {
		return set != nil
	}
	s.version = set.Version
	for _, filter := range set.FilterSet {
		for _, object := range filter.ObjectSet {
			s.learn(object)
		}
	}
	return true
}

func (s *story) learn(object types.ObjectUpdate) {
	_, known := s.known[object.Obj]
	if known == (object.Kind == types.ObjectUpdateKindEnter) {
		s.Fatalf("%s: %s, and known is %v", object.Obj, object.Kind, known)
	}
	if object.Kind == types.ObjectUpdateKindLeave {
		delete(s.known, object.Obj)
		return
	}
	for _, change := range object.ChangeSet {
		if change.Name == "name" {
			s.known[object.Obj] = change.Val.(string)
		}
	}
}

func (s *story) truth() map[types.ManagedObjectReference]string {
	truth := map[types.ManagedObjectReference]string{}
	for _, entity := range s.registry.All("VirtualMachine") {
		truth[entity.Reference()] = entity.(mo.Entity).Entity().Name
	}
	return truth
}

package collector_test

import (
	"context"
	"crypto/tls"
	"testing"
	"time"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/view"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vmpower/tests/rigs/vsphere/sim/collector"
)

var name = []string{"name", "runtime.powerState"}

// lab is a vCenter with some VMs and a client of govmomi's.
type lab struct {
	*testing.T

	ctx      context.Context
	model    *simulator.Model
	registry *simulator.Registry
	client   *vim25.Client
	vms      []*simulator.VirtualMachine
}

func newLab(t *testing.T, vms int) *lab {
	t.Helper()
	model := simulator.VPX()
	model.Machine, model.Host, model.Portgroup = vms, 0, 0
	must(t, model.Create())
	t.Cleanup(model.Remove)
	registry := model.Service.Context.Map
	collector.Install(registry, model.ServiceContent)
	model.Service.TLS = new(tls.Config)
	server := model.Service.NewServer()
	t.Cleanup(server.Close)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	client, err := govmomi.NewClient(ctx, server.URL, true)
	must(t, err)
	l := &lab{T: t, ctx: ctx, model: model, registry: registry, client: client.Client}
	for _, entity := range registry.All("VirtualMachine") {
		l.vms = append(l.vms, entity.(*simulator.VirtualMachine))
	}
	return l
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// powerOff changes a VM as the simulator does.
func (l *lab) powerOff(vm *simulator.VirtualMachine) {
	l.change(vm, types.PropertyChange{Name: "runtime.powerState", Val: types.VirtualMachinePowerStatePoweredOff})
}

func (l *lab) change(vm *simulator.VirtualMachine, changes ...types.PropertyChange) {
	ctx := *l.model.Service.Context
	ctx.Map.AtomicUpdate(&ctx, vm, changes)
}

// following is a filter on a container view of all VMs.
type following struct {
	*lab

	collector *property.Collector
	version   string
}

func (l *lab) follow(partial bool, paths ...string) *following {
	l.Helper()
	container, err := view.NewManager(l.client).CreateContainerView(
		l.ctx, l.client.ServiceContent.RootFolder, []string{"VirtualMachine"}, true)
	must(l.T, err)
	pc, err := property.DefaultCollector(l.client).Create(l.ctx)
	must(l.T, err)
	filter := new(property.WaitFilter)
	filter.PartialUpdates = partial
	filter.Add(container.Reference(), "VirtualMachine", paths, container.TraversalSpec())
	_, err = pc.CreateFilter(l.ctx, filter.CreateFilter)
	must(l.T, err)
	return &following{lab: l, collector: pc}
}

// next is the next answer; nil if there is none in so many seconds.
func (f *following) next(seconds int32) *types.UpdateSet {
	f.Helper()
	set, err := f.ask(f.version, types.WaitOptions{MaxWaitSeconds: &seconds})
	must(f.T, err)
	if set != nil {
		f.version = set.Version
	}
	return set
}

func (f *following) ask(version string, options types.WaitOptions) (*types.UpdateSet, error) {
	answer, err := methods.WaitForUpdatesEx(f.ctx, f.client, &types.WaitForUpdatesEx{
		This: f.collector.Reference(), Version: version, Options: &options,
	})
	if err != nil {
		return nil, err
	}
	return answer.Returnval, nil
}

// objects are those that an answer tells of, all of one kind.
func objects(t *testing.T, set *types.UpdateSet, kind types.ObjectUpdateKind) (found []types.ObjectUpdate) {
	t.Helper()
	if set == nil {
		t.Fatal("there was no answer")
	}
	for _, filter := range set.FilterSet {
		for _, object := range filter.ObjectSet {
			if object.Kind != kind {
				t.Fatalf("%s: %s, not %s", object.Obj, object.Kind, kind)
			}
			found = append(found, object)
		}
	}
	return found
}

func count(t *testing.T, what string, got, want int) {
	t.Helper()
	if got != want {
		t.Fatalf("%s: %d, not %d", what, got, want)
	}
}

func TestTheFirstAnswerTellsOfAllObjects(t *testing.T) {
	f := newLab(t, 3).follow(false, name...)
	entered := objects(t, f.next(1), types.ObjectUpdateKindEnter)
	count(t, "objects", len(entered), 3)
	count(t, "properties", len(entered[0].ChangeSet), 2)
}

func TestAChangeIsToldOfTheObjectThatChangedAlone(t *testing.T) {
	f := newLab(t, 3).follow(false, name...)
	f.next(1)
	f.powerOff(f.vms[1])
	changed := objects(t, f.next(5), types.ObjectUpdateKindModify)
	count(t, "objects", len(changed), 1)
	if changed[0].Obj != f.vms[1].Self || changed[0].ChangeSet[0].Val != types.VirtualMachinePowerStatePoweredOff {
		t.Fatalf("%+v", changed)
	}
}

func TestAChangeOfAnotherPropertyIsNotTold(t *testing.T) {
	f := newLab(t, 1).follow(false, name...)
	f.next(1)
	f.change(f.vms[0], types.PropertyChange{Name: "guest.hostName", Val: "web"})
	if set := f.next(0); set != nil {
		t.Fatalf("%+v", set)
	}
}

func TestAnAnswerThatWasLostIsGivenAgain(t *testing.T) {
	f := newLab(t, 2).follow(false, name...)
	f.next(1)
	version := f.version
	f.powerOff(f.vms[0])
	f.next(5)
	f.powerOff(f.vms[1])
	f.version = version
	count(t, "objects", len(objects(t, f.next(5), types.ObjectUpdateKindModify)), 2)
}

func TestAVersionThatNeverWasIsRefused(t *testing.T) {
	f := newLab(t, 1).follow(false, name...)
	f.next(1)
	_, err := f.ask("99", types.WaitOptions{})
	if !soap.IsSoapFault(err) {
		t.Fatal(err)
	}
	if _, ok := soap.ToSoapFault(err).VimFault().(types.InvalidCollectorVersion); !ok {
		t.Fatal(err)
	}
}

func TestAnAnswerIsTruncatedAndGoesOn(t *testing.T) {
	f := newLab(t, 5).follow(false, name...)
	first, err := f.ask("", types.WaitOptions{MaxObjectUpdates: 3})
	must(t, err)
	count(t, "objects", len(objects(t, first, types.ObjectUpdateKindEnter)), 3)
	if first.Truncated == nil || !*first.Truncated {
		t.Fatal("it does not say so")
	}
	second, err := f.ask(first.Version, types.WaitOptions{MaxObjectUpdates: 3})
	must(t, err)
	count(t, "objects", len(objects(t, second, types.ObjectUpdateKindEnter)), 2)
	if second.Truncated != nil {
		t.Fatal("it still says so")
	}
}

func TestAPropertyThatIsUnsetIsRemoved(t *testing.T) {
	f := newLab(t, 1).follow(false, "runtime.question")
	f.change(f.vms[0], types.PropertyChange{Name: "runtime.question", Val: types.VirtualMachineQuestionInfo{Id: "1"}})
	f.next(1)
	f.change(f.vms[0], types.PropertyChange{Name: "runtime.question", Val: nil})
	change := objects(t, f.next(5), types.ObjectUpdateKindModify)[0].ChangeSet[0]
	if change.Op != types.PropertyChangeOpRemove || change.Val != nil {
		t.Fatalf("%+v", change)
	}
}

func TestPartialUpdatesNameThePartThatChanged(t *testing.T) {
	f := newLab(t, 1).follow(true, "guest")
	f.next(1)
	f.change(f.vms[0], types.PropertyChange{Name: "guest.hostName", Val: "web"})
	change := objects(t, f.next(5), types.ObjectUpdateKindModify)[0].ChangeSet[0]
	if change.Name != "guest.hostName" || change.Val != "web" {
		t.Fatalf("%+v", change)
	}
}

func TestWholePropertiesAreToldOtherwise(t *testing.T) {
	f := newLab(t, 1).follow(false, "guest")
	f.next(1)
	f.change(f.vms[0], types.PropertyChange{Name: "guest.hostName", Val: "web"})
	change := objects(t, f.next(5), types.ObjectUpdateKindModify)[0].ChangeSet[0]
	if guest, ok := change.Val.(types.GuestInfo); change.Name != "guest" || !ok || guest.HostName != "web" {
		t.Fatalf("%+v", change)
	}
}

func TestAVMThatIsDestroyedLeaves(t *testing.T) {
	f := newLab(t, 2).follow(false, name...)
	f.next(1)
	f.powerOff(f.vms[0])
	f.next(5)
	ctx := *f.model.Service.Context
	f.vms[0].DestroyTask(&ctx, &types.Destroy_Task{This: f.vms[0].Self})
	left := objects(t, f.next(5), types.ObjectUpdateKindLeave)
	if len(left) != 1 || left[0].Obj != f.vms[0].Self {
		t.Fatalf("%+v", left)
	}
}

func TestAnUnknownPropertyIsRefused(t *testing.T) {
	l := newLab(t, 1)
	filter := new(property.WaitFilter).Add(l.vms[0].Self, "VirtualMachine", []string{"runtime.powerstat"})
	_, err := property.DefaultCollector(l.client).CreateFilter(l.ctx, filter.CreateFilter)
	if !soap.IsSoapFault(err) {
		t.Fatal(err)
	}
}

func TestGovmomisOwnWaitSeesATaskEnd(t *testing.T) {
	l := newLab(t, 1)
	ctx := *l.model.Service.Context
	body := l.vms[0].PowerOffVMTask(&ctx, &types.PowerOffVM_Task{This: l.vms[0].Self}).(*methods.PowerOffVM_TaskBody)
	ended := func(changes []types.PropertyChange) bool {
		for _, change := range changes {
			if info, ok := change.Val.(types.TaskInfo); ok && info.State == types.TaskInfoStateSuccess {
				return true
			}
		}
		return false
	}
	must(t, property.Wait(l.ctx, property.DefaultCollector(l.client), body.Res.Returnval, []string{"info"}, ended))
}

func TestAWaitThatIsCancelledSaysSo(t *testing.T) {
	f := newLab(t, 1).follow(false, name...)
	f.next(1)
	failed := make(chan error)
	go func() {
		_, err := f.ask(f.version, types.WaitOptions{})
		failed <- err
	}()
	cancel := &types.CancelWaitForUpdates{This: f.collector.Reference()}
	for { // until the wait is there to be cancelled
		_, err := methods.CancelWaitForUpdates(f.ctx, f.client, cancel)
		must(t, err)
		select {
		case err := <-failed:
			if _, ok := soap.ToSoapFault(err).VimFault().(types.RequestCanceled); !ok {
				t.Fatal(err)
			}
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}

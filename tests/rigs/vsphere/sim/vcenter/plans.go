package vcenter

import (
	"fmt"
	"strings"
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// plan is what becomes of the next calls of methods: each call takes the first entry of its method. An entry is
//
//	ok              nothing special
//	NoPermission    the call fails with this fault, or any other by its type's name
//	task:NoPermission  the call succeeds, and its task fails
//	http:503        it never reaches the method; any other status, too
//	cut             the connection ends before the call reaches the method
//	lost            the method does its work, and the connection ends before the answer
//	hang            the call does not reach the method, and is not answered for as long as its client waits
type plan map[string][]string

const (
	fine      = "ok"
	cut       = "cut"
	lost      = "lost"
	hang      = "hang"
	inTask    = "task:"
	inTransit = "http:"
)

func (p plan) check() error {
	for method, entries := range p {
		for _, entry := range entries {
			if name := strings.TrimPrefix(entry, inTask); !transit(entry) && entry != fine && newFault(name) == nil {
				return fmt.Errorf("faults.%s: there is no fault %q", method, entry)
			}
		}
	}
	return nil
}

// transit: it happens between client and vCenter.
func transit(entry string) bool {
	return entry == cut || entry == lost || entry == hang || strings.HasPrefix(entry, inTransit)
}

// take is the next entry of a method, if it is of this kind.
func (p plan) take(method string, wanted func(string) bool) string {
	entries := p[method]
	if len(entries) == 0 || !wanted(entries[0]) {
		return ""
	}
	p[method] = entries[1:]
	return entries[0]
}

// plans are those of the whole vCenter.
type plans struct {
	sync.Mutex
	plan
}

func (p *plans) set(changes plan) error {
	p.Lock()
	defer p.Unlock()
	for method, entries := range changes {
		p.plan[method] = entries
	}
	return changes.check()
}

func (p *plans) take(method string, wanted func(string) bool) string {
	p.Lock()
	defer p.Unlock()
	return p.plan.take(method, wanted)
}

func inside(entry string) bool { return !transit(entry) }

// planned is the fault that a call fails with, whatever it is called on.
func (v *VCenter) planned(method string) types.BaseMethodFault {
	if entry := v.plans.take(method, inside); entry != "" && entry != fine {
		return newFault(entry)
	}
	return nil
}

// inTransit is what happens to a call before or after it is at its method.
func (v *VCenter) inTransit(method, moid string) (entry string) {
	if entry = v.plans.take(method, transit); entry != "" {
		return entry
	}
	if vm := v.byID(moid); vm != nil {
		vm.locked(func(*simulator.Context) { entry = vm.b.Faults.take(method, transit) })
	}
	return entry
}

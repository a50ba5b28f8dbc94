package vcenter

import (
	"slices"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// rights say that an account has every privilege but those that tests take from it. They are told, and nothing is
// refused for their sake.
type rights struct {
	*simulator.AuthorizationManager // first: what properties are read from
	unlocked
	rig *VCenter
}

// installRights puts them in the place of the simulator's, which grants all.
func (v *VCenter) installRights() {
	ctx := v.context()
	known := ctx.Map.Get(*v.model.ServiceContent.AuthorizationManager).(*simulator.AuthorizationManager)
	ctx.Map.Put(&rights{AuthorizationManager: known, rig: v})
}

// deny takes these privileges on these VMs, and no others.
func (v *VCenter) deny(denied map[string][]string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.denied = denied
}

// HasPrivilegeOnEntities says which privileges an account has.
func (r *rights) HasPrivilegeOnEntities(req *types.HasPrivilegeOnEntities) soap.HasFault {
	var told []types.EntityPrivilege
	for _, entity := range req.Entity {
		each := types.EntityPrivilege{Entity: entity}
		for _, privilege := range req.PrivId {
			granted := !slices.Contains(r.rig.deniedOn(entity), privilege)
			each.PrivAvailability = append(each.PrivAvailability, types.PrivilegeAvailability{
				PrivId: privilege, IsGranted: granted,
			})
		}
		told = append(told, each)
	}
	return &methods.HasPrivilegeOnEntitiesBody{Res: &types.HasPrivilegeOnEntitiesResponse{Returnval: told}}
}

func (v *VCenter) deniedOn(entity types.ManagedObjectReference) []string {
	vm := v.byID(entity.Value)
	v.mu.Lock()
	defer v.mu.Unlock()
	if vm == nil {
		return nil
	}
	return v.denied[vm.key]
}

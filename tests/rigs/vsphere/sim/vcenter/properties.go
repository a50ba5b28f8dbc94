package vcenter

import (
	"maps"
	"reflect"
	"slices"
	"strconv"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// publish tells the property collector, and so all clients, what is different from what they were told last.
func (v *VM) publish(ctx *simulator.Context) {
	properties := v.properties()
	var changes []types.PropertyChange
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		value := properties[name]
		if told, known := v.told[name]; !known || !reflect.DeepEqual(told, value) {
			v.told[name] = value
			changes = append(changes, types.PropertyChange{Name: name, Val: value})
		}
	}
	if len(changes) > 0 {
		ctx.Update(v, changes)
		v.DisabledMethod = nil // Get shows them
	}
}

// properties are those that follow from the phase and the behaviour.
func (v *VM) properties() map[string]any {
	properties := map[string]any{
		"config.template":         v.b.Template,
		"config.ftInfo":           v.ftInfo(),
		"config.managedBy":        v.managedBy(),
		"config.instanceUuid":     v.readable(v.uuid),
		"summary.config.template": v.b.Template,
		"disabledMethod":          v.disabledMethods(),
		"guestHeartbeatStatus":    v.heartbeat(),
	}
	for name, value := range v.runtime() {
		properties["runtime."+name] = value
		properties["summary.runtime."+name] = value
	}
	for name, value := range v.tools() {
		properties["guest."+name] = value
	}
	for _, name := range []string{"toolsStatus", "toolsVersionStatus2", "toolsRunningStatus", "hostName", "ipAddress"} {
		properties["summary.guest."+name] = properties["guest."+name]
	}
	return properties
}

func (v *VM) runtime() map[string]any {
	return map[string]any{
		"powerState":          v.powerState(),
		"connectionState":     types.VirtualMachineConnectionState(v.b.Connection),
		"question":            v.question(),
		"bootTime":            v.bootTime(),
		"cleanPowerOff":       v.cleanPowerOff(),
		"faultToleranceState": v.ftState(),
		"recordReplayState":   types.VirtualMachineRecordReplayStateInactive,
	}
}

func (v *VM) bootTime() any {
	if v.phase == off {
		return nil
	}
	return timeOf(v.record.OnAt)
}

// cleanPowerOff is false after a crash alone: one whose power was cut has ended in order, as vCenter sees it.
func (v *VM) cleanPowerOff() any {
	if v.phase != off {
		return nil
	}
	return v.record.OffCause != "crash"
}

func (v *VM) managedBy() any {
	if v.b.ManagedBy == (Manager{}) {
		return nil
	}
	return types.ManagedByInfo{ExtensionKey: v.b.ManagedBy.Extension, Type: v.b.ManagedBy.Type}
}

// readable is what vCenter tells only while it can read a VM's configuration.
func (v *VM) readable(text string) string {
	if v.b.Connection == "inaccessible" || v.b.Connection == "invalid" {
		return ""
	}
	return text
}

func (v *VM) ftState() types.VirtualMachineFaultToleranceState {
	if v.b.FTSecondary {
		return types.VirtualMachineFaultToleranceStateRunning
	}
	return types.VirtualMachineFaultToleranceStateNotConfigured
}

// ftInfo is what tells a secondary from a primary. The primary is none of this vCenter's VMs.
func (v *VM) ftInfo() any {
	if !v.b.FTSecondary {
		return nil
	}
	uuids := []string{"52000000-0000-0000-0000-000000000001", v.uuid}
	return types.FaultToleranceSecondaryConfigInfo{
		FaultToleranceConfigInfo: types.FaultToleranceConfigInfo{Role: 2, InstanceUuids: uuids},
		PrimaryVM:                types.ManagedObjectReference{Type: "VirtualMachine", Value: "vm-0"},
	}
}

// Methods that vCenter shows as disabled by the power state; there are more.
var (
	whenOn        = []string{"PowerOnVM_Task", "MarkAsTemplate", "MarkAsVirtualMachine", "UnregisterVM", "Destroy_Task"}
	whenSuspended = []string{
		"SuspendVM_Task", "ResetVM_Task", "ShutdownGuest", "RebootGuest", "StandbyGuest", "MarkAsTemplate",
	}
	whenOff = append([]string{"PowerOffVM_Task"}, whenSuspended...)
)

func (v *VM) disabledMethods() []string {
	methods := whenOn
	switch v.phase {
	case off:
		methods = whenOff
	case suspended:
		methods = whenSuspended
	}
	return slices.Concat(methods, v.b.DisabledMethods)
}

// question is a value or nil, never a pointer: the simulator takes no pointers for properties.
func (v *VM) question() any {
	if v.b.Question == nil {
		return nil
	}
	info := types.VirtualMachineQuestionInfo{Id: "1", Text: v.b.Question.Text}
	info.Message = []types.VirtualMachineMessage{{Id: "msg.rig", Text: v.b.Question.Text}}
	for i, choice := range v.b.Question.Choices {
		info.Choice.ChoiceInfo = append(info.Choice.ChoiceInfo, &types.ElementDescription{
			Description: types.Description{Label: choice, Summary: choice},
			Key:         strconv.Itoa(i),
		})
	}
	return info
}

// AnswerVM lets the guest go on.
func (v *VM) AnswerVM(ctx *simulator.Context, r *types.AnswerVM) soap.HasFault {
	fault, _ := v.asked("AnswerVM")
	if fault == nil && (v.b.Question == nil || r.QuestionId != "1") {
		fault = &types.InvalidArgument{InvalidProperty: "questionId"}
	}
	if fault != nil {
		return &methods.AnswerVMBody{Fault_: soapFault(fault)}
	}
	v.b.Question = nil
	v.publish(ctx)
	return &methods.AnswerVMBody{Res: &types.AnswerVMResponse{}}
}

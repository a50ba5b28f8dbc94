package vcenter

import (
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/vmware/govmomi/simulator"
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
	}
}

// properties are those that follow from the phase and the behaviour.
func (v *VM) properties() map[string]any {
	properties := map[string]any{
		"config.template":         v.b.Template,
		"summary.config.template": v.b.Template,
	}
	both := func(name string, value any) {
		properties["runtime."+name] = value
		properties["summary.runtime."+name] = value
	}
	both("powerState", v.powerState())
	both("connectionState", types.VirtualMachineConnectionState(v.b.Connection))
	both("question", v.question())
	both("bootTime", v.bootTime())
	both("faultToleranceState", v.ftState())
	both("recordReplayState", types.VirtualMachineRecordReplayStateInactive)
	for name, value := range v.tools() {
		properties["guest."+name] = value
	}
	for _, name := range []string{"toolsStatus", "toolsVersionStatus2", "toolsRunningStatus", "hostName", "ipAddress"} {
		properties["summary.guest."+name] = properties["guest."+name]
	}
	properties["guestHeartbeatStatus"] = v.heartbeat()
	return properties
}

// heard is what vCenter hears of tools that run, start, or do not.
type heard struct {
	running, state string
	ready          bool
}

var (
	silent       = heard{running: "guestToolsNotRunning", state: "notRunning"}
	initializing = heard{running: "guestToolsExecutingScripts", state: "running"}
	talking      = heard{running: "guestToolsRunning", state: "running", ready: true}
	leaving      = heard{running: "guestToolsRunning", state: "shuttingDown"}
)

func (v *VM) heard() heard {
	if v.b.Tools == "not_running" || v.b.Tools == "not_installed" {
		return silent
	}
	switch v.phase {
	case starting:
		return initializing
	case up:
		if v.b.Tools == "executing_scripts" {
			return initializing
		}
		return talking
	case stopping:
		return leaving
	}
	return silent
}

// tools are the guest's own properties, as vCenter shows them.
func (v *VM) tools() map[string]any {
	heard := v.heard()
	return map[string]any{
		"toolsRunningStatus":              heard.running,
		"toolsStatus":                     v.toolsStatus(heard),
		"toolsVersionStatus":              v.toolsVersion(),
		"toolsVersionStatus2":             v.toolsVersion(),
		"guestState":                      heard.state,
		"guestStateChangeSupported":       heard.ready,
		"guestOperationsReady":            heard.ready,
		"interactiveGuestOperationsReady": false,
		"guestFamily":                     map[string]string{"linux": "linuxGuest", "windows": "windowsGuest"}[v.b.Guest],
		"guestId":                         map[string]string{"linux": "debian12_64Guest", "windows": "windows2019srv_64Guest"}[v.b.Guest],
		"hostName":                        v.hostName(heard),
		"ipAddress":                       "",
	}
}

// toolsStatus is the deprecated property that says everything at once.
func (v *VM) toolsStatus(heard heard) types.VirtualMachineToolsStatus {
	switch {
	case v.b.Tools == "not_installed":
		return types.VirtualMachineToolsStatusToolsNotInstalled
	case heard == silent:
		return types.VirtualMachineToolsStatusToolsNotRunning
	case v.b.Tools == "old":
		return types.VirtualMachineToolsStatusToolsOld
	}
	return types.VirtualMachineToolsStatusToolsOk
}

func (v *VM) toolsVersion() string {
	switch v.b.Tools {
	case "not_installed":
		return "guestToolsNotInstalled"
	case "old":
		return "guestToolsSupportedOld"
	}
	return "guestToolsCurrent"
}

func (v *VM) hostName(heard heard) string {
	if heard == silent {
		return ""
	}
	return v.Name
}

func (v *VM) heartbeat() types.ManagedEntityStatus {
	if v.heard() == silent {
		return types.ManagedEntityStatusGray
	}
	return types.ManagedEntityStatusGreen
}

func (v *VM) bootTime() any {
	if v.phase == off {
		return nil
	}
	return timeOf(v.record.OnAt)
}

func (v *VM) ftState() types.VirtualMachineFaultToleranceState {
	if v.b.FTSecondary {
		return types.VirtualMachineFaultToleranceStateRunning
	}
	return types.VirtualMachineFaultToleranceStateNotConfigured
}

// question is a value or nil, never a pointer: the simulator takes no pointers for properties.
func (v *VM) question() any {
	if v.b.Question == nil {
		return nil
	}
	info := types.VirtualMachineQuestionInfo{Id: "1", Text: v.b.Question.Text}
	for i, choice := range v.b.Question.Choices {
		info.Choice.ChoiceInfo = append(info.Choice.ChoiceInfo, &types.ElementDescription{
			Description: types.Description{Label: choice, Summary: choice},
			Key:         fmt.Sprint(i),
		})
	}
	return info
}

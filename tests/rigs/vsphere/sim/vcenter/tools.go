package vcenter

import "github.com/vmware/govmomi/vim25/types"

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

var (
	families = map[string]string{"linux": "linuxGuest", "windows": "windowsGuest"}
	systems  = map[string]string{"linux": "debian12_64Guest", "windows": "windows2022srvNext_64Guest"}
)

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
		"guestFamily":                     families[v.b.Guest],
		"guestId":                         systems[v.b.Guest],
		"hostName":                        v.known(heard, v.Name),
		"ipAddress":                       v.known(heard, v.b.Address),
		"net":                             nics(v.known(heard, v.b.Address)),
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

// known is what only tools that are there can tell.
func (v *VM) known(heard heard, value string) string {
	if heard == silent {
		return ""
	}
	return value
}

func (v *VM) heartbeat() types.ManagedEntityStatus {
	if v.heard() == silent {
		return types.ManagedEntityStatusGray
	}
	return types.ManagedEntityStatusGreen
}

func nics(address string) any {
	if address == "" {
		return nil
	}
	return []types.GuestNicInfo{{Network: "VM Network", IpAddress: []string{address}, Connected: true, DeviceConfigId: 4000}}
}

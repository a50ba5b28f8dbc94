package vcenter

import (
	"path"
	"strings"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vmpower/tests/rigs/vsphere/sim/guest"
)

type authManager struct {
	mo.GuestAuthManager
	unlocked

	rig *VCenter
}

// ValidateCredentialsInGuest says whether there is such a login.
func (m *authManager) ValidateCredentialsInGuest(_ *simulator.Context, r *types.ValidateCredentialsInGuest) soap.HasFault {
	if _, _, fault := m.rig.enter("ValidateCredentialsInGuest", r.Vm, r.Auth); fault != nil {
		return &methods.ValidateCredentialsInGuestBody{Fault_: soapFault(fault)}
	}
	return &methods.ValidateCredentialsInGuestBody{Res: &types.ValidateCredentialsInGuestResponse{}}
}

type processManager struct {
	mo.GuestProcessManager
	unlocked

	rig *VCenter
}

// StartProgramInGuest runs a program, and does not wait for its end.
func (m *processManager) StartProgramInGuest(_ *simulator.Context, r *types.StartProgramInGuest) soap.HasFault {
	pid, fault := m.start(r)
	if fault != nil {
		return &methods.StartProgramInGuestBody{Fault_: soapFault(fault)}
	}
	return &methods.StartProgramInGuestBody{Res: &types.StartProgramInGuestResponse{Returnval: pid}}
}

func (m *processManager) start(r *types.StartProgramInGuest) (int64, types.BaseMethodFault) {
	_, inside, fault := m.rig.enter("StartProgramInGuest", r.Vm, r.Auth)
	if fault != nil {
		return 0, fault
	}
	spec := r.Spec.GetGuestProgramSpec()
	pid, err := inside.Start(guest.Spec{
		Program: spec.ProgramPath, Arguments: spec.Arguments, Directory: spec.WorkingDirectory,
		Environment: spec.EnvVariables, Owner: userOf(r.Auth),
	})
	return pid, vimFault(err, spec.ProgramPath)
}

// listBody is govmomi's own answer, but for exit codes: there, one that is 0 would be left out.
type listBody struct {
	Res    *listResponse `xml:"ListProcessesInGuestResponse,omitempty"`
	Fault_ *soap.Fault   `xml:"http://schemas.xmlsoap.org/soap/envelope/ Fault,omitempty"`
}

type listResponse struct {
	Returnval []processInfo `xml:"returnval,omitempty"`
}

type processInfo struct {
	Name      string     `xml:"name"`
	Pid       int64      `xml:"pid"`
	Owner     string     `xml:"owner"`
	CmdLine   string     `xml:"cmdLine"`
	StartTime time.Time  `xml:"startTime"`
	EndTime   *time.Time `xml:"endTime"`
	ExitCode  *int32     `xml:"exitCode"`
}

// Fault is why there is no answer.
func (b *listBody) Fault() *soap.Fault { return b.Fault_ }

// ListProcessesInGuest shows those that were started so, and that run or ended not long ago.
func (m *processManager) ListProcessesInGuest(_ *simulator.Context, r *types.ListProcessesInGuest) soap.HasFault {
	_, inside, fault := m.rig.enter("ListProcessesInGuest", r.Vm, r.Auth)
	if fault != nil {
		return &listBody{Fault_: soapFault(fault)}
	}
	response := &listResponse{}
	for _, process := range inside.List(r.Pids) {
		response.Returnval = append(response.Returnval, info(process))
	}
	return &listBody{Res: response}
}

func info(process guest.Process) processInfo {
	info := processInfo{
		Name:      path.Base(strings.ReplaceAll(process.Program, `\`, "/")),
		Pid:       process.PID,
		Owner:     process.Owner,
		CmdLine:   process.CommandLine,
		StartTime: process.StartedAt,
		EndTime:   process.EndedAt,
	}
	if process.EndedAt != nil {
		info.ExitCode = &process.ExitCode
	}
	return info
}

// TerminateProcessInGuest ends one.
func (m *processManager) TerminateProcessInGuest(_ *simulator.Context, r *types.TerminateProcessInGuest) soap.HasFault {
	_, inside, fault := m.rig.enter("TerminateProcessInGuest", r.Vm, r.Auth)
	if fault == nil {
		fault = vimFault(inside.Terminate(r.Pid), "")
	}
	if fault != nil {
		return &methods.TerminateProcessInGuestBody{Fault_: soapFault(fault)}
	}
	return &methods.TerminateProcessInGuestBody{Res: &types.TerminateProcessInGuestResponse{}}
}

// ReadEnvironmentVariableInGuest is not simulated.
func (m *processManager) ReadEnvironmentVariableInGuest(*simulator.Context, *types.ReadEnvironmentVariableInGuest) soap.HasFault {
	return &methods.ReadEnvironmentVariableInGuestBody{Fault_: soapFault(&types.NotSupported{})}
}

// process is one as tests see it; times are those of Python.
type process struct {
	guest.Process

	StartedAt float64 `json:"started_at"`
	EndedAt   float64 `json:"ended_at"`
}

func processes(inside *guest.Guest) (shown []process) {
	for _, known := range inside.List(nil) {
		one := process{Process: known, StartedAt: float64(known.StartedAt.Unix())}
		if known.EndedAt != nil {
			one.EndedAt = float64(known.EndedAt.Unix())
		}
		shown = append(shown, one)
	}
	return shown
}

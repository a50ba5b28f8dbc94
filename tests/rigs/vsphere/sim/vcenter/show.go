package vcenter

import "github.com/vmware/govmomi/simulator"

// record is what happened to a VM.
type record struct {
	Asked     []call     `json:"asked_at"`
	OffAt     float64    `json:"off_at"`
	OnAt      float64    `json:"on_at"`
	OffCause  string     `json:"off_cause"` // guest, power_off, hand, crash
	Snapshots []snapshot `json:"snapshots"`
}

// call is one that a client made on a VM, whatever became of it.
type call struct {
	Method string  `json:"method"`
	Time   float64 `json:"time"`
}

// shown is a VM as tests see it.
type shown struct {
	record

	MoID         string `json:"moid"`
	InstanceUUID string `json:"instance_uuid"`
	Power        string `json:"power"`
	Tools        string `json:"tools"`

	Processes []process `json:"processes"`
	Files     []string  `json:"files"`
}

func (v *VM) show() (s shown) {
	v.locked(func(*simulator.Context) {
		s = shown{
			record:       v.record,
			MoID:         v.Self.Value,
			InstanceUUID: v.uuid,
			Power:        string(v.powerState()),
			Tools:        v.heard().running,
			Processes:    []process{},
			Files:        []string{},
		}
		s.Asked = append([]call{}, v.record.Asked...)
		s.Snapshots = append([]snapshot{}, v.record.Snapshots...)
	})
	if inside := v.rig.guests.known(v); inside != nil {
		s.Processes, s.Files = processes(inside), inside.Files()
	}
	return s
}

package vcenter

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Behaviour is what one VM is and does. The names are those of the fields in JSON; an unknown one is an error.
type Behaviour struct {
	Name       string `json:"name"`       // of the VM; its key, if empty
	Count      int    `json:"count"`      // so many VMs, KEY-0001 and on
	Datacenter string `json:"datacenter"` // DC0, if empty
	Folder     string `json:"folder"`     // a path below the datacenter's VM folder
	Pool       string `json:"pool"`       // a resource pool below the cluster's own

	Power           string            `json:"power"` // on, off, suspended
	BootTime        Seconds           `json:"boot_time"`
	ShutdownTime    Seconds           `json:"shutdown_time"`
	PowerOffTime    Seconds           `json:"power_off_time"` // how long the task runs
	SnapshotTime    Seconds           `json:"snapshot_time"`  // the same
	Tools           string            `json:"tools"`          // running, not_running, executing_scripts, not_installed, old
	Ignores         bool              `json:"ignores"`        // requests are accepted, and nothing happens
	Refuses         bool              `json:"refuses"`        // requests fail with InvalidState
	OnShutdown      string            `json:"on_shutdown"`    // off, reboot, panic
	Template        bool              `json:"template"`
	FTSecondary     bool              `json:"ft_secondary"`
	ManagedBy       Manager           `json:"managed_by"` // nobody, if empty
	Question        *Question         `json:"question"`
	DisabledMethods []string          `json:"disabled_methods"`
	Connection      string            `json:"connection"` // connected, disconnected, inaccessible, invalid, orphaned
	Guest           string            `json:"guest"`      // linux, windows
	Address         string            `json:"address"`    // an IP address that tools tell
	GuestLogin      Login             `json:"guest_login"`
	Programs        map[string]string `json:"programs"` // a Windows guest's: its path there -> what runs here
	Faults          plan              `json:"faults"`   // what becomes of calls on it
}

// Manager is the solution that a VM belongs to, and what it is to that.
type Manager struct {
	Extension string `json:"extension"`
	Type      string `json:"type"`
}

// Question is one that a VM waits for an answer to.
type Question struct {
	Text    string   `json:"text"`
	Choices []string `json:"choices"`
}

// Login is a user and its password.
type Login struct {
	Username string `json:"username"`
	Password string `json:"password"`
}

// healthy is a Linux guest with running tools.
func healthy() Behaviour {
	return Behaviour{
		Count:        1,
		Power:        "on",
		BootTime:     Seconds(time.Second),
		ShutdownTime: Seconds(2 * time.Second),
		Tools:        "running",
		OnShutdown:   "off",
		Connection:   "connected",
		Guest:        "linux",
		GuestLogin:   Login{Username: "root", Password: "guest"},
	}
}

// changed is the behaviour with the fields that the JSON names replaced.
func (b Behaviour) changed(text []byte) (Behaviour, error) {
	changed := b
	changed.Faults, changed.Programs = maps.Clone(b.Faults), maps.Clone(b.Programs)
	if err := Decode(text, &changed); err != nil {
		return b, err
	}
	if changed.place() != b.place() || changed.Name != b.Name || changed.Power != b.Power || changed.Count != b.Count {
		return b, errors.New("name, count, power and place are what a VM begins with; there are calls that change them")
	}
	return changed, nil
}

func (b Behaviour) check() error {
	for _, word := range []struct {
		field, value string
		words        []string
	}{
		{"power", b.Power, []string{"on", "off", "suspended"}},
		{"tools", b.Tools, []string{"running", "not_running", "executing_scripts", "not_installed", "old"}},
		{"on_shutdown", b.OnShutdown, []string{"off", "reboot", "panic"}},
		{"connection", b.Connection, []string{"connected", "disconnected", "inaccessible", "invalid", "orphaned"}},
		{"guest", b.Guest, []string{"linux", "windows"}},
	} {
		if !slices.Contains(word.words, word.value) {
			return fmt.Errorf("%s: %q is none of %q", word.field, word.value, word.words)
		}
	}
	return b.Faults.check()
}

// Seconds is a duration; in JSON a number, or text like "250ms".
type Seconds time.Duration

// UnmarshalJSON reads either.
func (s *Seconds) UnmarshalJSON(text []byte) error {
	var value any
	if err := json.Unmarshal(text, &value); err != nil {
		return err
	}
	switch value := value.(type) {
	case float64:
		*s = Seconds(value * float64(time.Second))
	case string:
		duration, err := time.ParseDuration(value)
		*s = Seconds(duration)
		return err
	default:
		return fmt.Errorf("%s: not a duration", text)
	}
	return nil
}

// Decode reads JSON; what it does not know is an error.
func Decode(text []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	return decoder.Decode(into)
}

// UnmarshalJSON fills in what a healthy guest does.
func (b *Behaviour) UnmarshalJSON(text []byte) error {
	type plain Behaviour // without this method
	filled := plain(*b)
	if b.Guest == "" {
		filled = plain(healthy())
	}
	if err := Decode(text, &filled); err != nil {
		return err
	}
	*b = Behaviour(filled)
	return b.check()
}

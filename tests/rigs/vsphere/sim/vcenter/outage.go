package vcenter

import "time"

// outage is how a vCenter goes away.
type outage struct {
	Seconds      Seconds `json:"seconds"` // and then it is back; 0: until it is started
	KeepSessions bool    `json:"keep_sessions"`
	Busy         bool    `json:"busy"` // connections are taken, and calls answered with 503
}

// goAway cuts all connections; guests live on.
func (v *VCenter) goAway(how outage) error {
	v.front.close()
	if !how.KeepSessions {
		v.expire()
	}
	if how.Seconds > 0 {
		time.AfterFunc(time.Duration(how.Seconds), func() { _ = v.comeBack() })
	}
	if how.Busy {
		return v.front.open(true)
	}
	return nil
}

// comeBack is on the same port.
func (v *VCenter) comeBack() error {
	return v.front.open(false)
}

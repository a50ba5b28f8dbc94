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
	v.comesBack(time.Duration(how.Seconds))
	v.front.close()
	if !how.KeepSessions {
		v.expire()
	}
	if how.Busy {
		return v.front.open(true)
	}
	return nil
}

// comeBack is on the same port.
func (v *VCenter) comeBack() error {
	v.comesBack(0)
	return v.front.open(false)
}

// comesBack is planned, or not, whatever was planned before.
func (v *VCenter) comesBack(in time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.back != nil {
		v.back.Stop()
	}
	if in > 0 {
		v.back = time.AfterFunc(in, func() { _ = v.comeBack() })
	}
}

package vcenter

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"

	"github.com/google/uuid"

	"vmpower/tests/rigs/vsphere/sim/guest"
)

const guestFile = "/guestFile"

// transfer is a file on its way, from one guest or to one.
type transfer struct {
	from, to  *guest.Guest
	path      string
	overwrite bool
}

// transfers are those that were offered and not yet taken. A vCenter's lead to the host where the VM runs, which has
// a certificate of its own; a host's lead to itself, and say so with an asterisk.
type transfers struct {
	rig *VCenter

	mu      sync.Mutex
	offered map[string]transfer
}

func (t *transfers) offer(file transfer) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	token := uuid.NewString()
	t.offered[token] = file
	return fmt.Sprintf("https://%s%s?id=%d&token=%s", t.rig.fileServer(), guestFile, len(t.offered), token)
}

// ServeHTTP hands a file over. An address that was used is no more.
func (t *transfers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	token := r.URL.Query().Get("token")
	t.mu.Lock()
	file, ok := t.offered[token]
	delete(t.offered, token)
	t.mu.Unlock()
	switch {
	case ok && r.Method == http.MethodGet && file.from != nil:
		get(w, file)
	case ok && r.Method == http.MethodPut && file.to != nil:
		put(w, r, file)
	default:
		http.NotFound(w, r)
	}
}

func get(w http.ResponseWriter, file transfer) {
	text, err := file.from.Read(file.path)
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	_, _ = w.Write(text)
}

func put(w http.ResponseWriter, r *http.Request, file transfer) {
	text, err := io.ReadAll(r.Body)
	if err == nil {
		err = file.to.Write(file.path, text, file.overwrite)
	}
	if errors.Is(err, guest.ErrExists) {
		http.Error(w, err.Error(), http.StatusConflict)
	} else if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
	}
}

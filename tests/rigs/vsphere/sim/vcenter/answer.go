package vcenter

import (
	"bytes"
	"encoding/xml"
	"io"
	"log"
	"net/http"
	"regexp"
)

// quiet is for servers whose clients are cut off all the time.
var quiet = log.New(io.Discard, "", 0)

// answer is held back until it is whole.
type answer struct {
	http.ResponseWriter

	status int
	body   bytes.Buffer
}

// WriteHeader keeps the status.
func (a *answer) WriteHeader(status int) { a.status = status }

// Write keeps the text.
func (a *answer) Write(text []byte) (int, error) { return a.body.Write(text) }

func (a *answer) send() {
	text := a.body.Bytes()
	if a.status == http.StatusInternalServerError {
		text = explained(text)
	}
	a.ResponseWriter.WriteHeader(a.status)
	_, _ = a.ResponseWriter.Write(text)
}

var (
	faultText = regexp.MustCompile(`<faultstring>[^<]*</faultstring>`)
	faultType = regexp.MustCompile(`<detail>\s*<\w+Fault [^>]*xsi:type="(\w+)"`)
)

// explained gives faults of the simulator's the words that vCenter has for them.
func explained(text []byte) []byte {
	found := faultType.FindSubmatch(text)
	if found == nil || said[string(found[1])] == "" {
		return text
	}
	var words bytes.Buffer
	_ = xml.EscapeText(&words, []byte(said[string(found[1])]))
	return faultText.ReplaceAllLiteral(text, []byte("<faultstring>"+words.String()+"</faultstring>"))
}

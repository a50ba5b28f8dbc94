// The part of a kubelet that `kubectl exec` and `kubectl port-forward` reach, by Kubernetes' own library. It runs no
// containers: a file, read at each request, says what stands for those of a pod.
package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"time"

	"k8s.io/apimachinery/pkg/types"
	remotecommandconsts "k8s.io/apimachinery/pkg/util/remotecommand"
	clientremotecommand "k8s.io/client-go/tools/remotecommand"
	"k8s.io/kubelet/pkg/cri/streaming/portforward"
	"k8s.io/kubelet/pkg/cri/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"
)

const idle, creation = time.Hour, 30 * time.Second

// Pod is one pod: the environment of commands in each of its containers, and the address (host:port) that stands for
// each of its ports.
type Pod struct {
	Containers map[string][]string
	Ports      map[int32]string
}

type node struct{ file string }

func (n node) pod(name string) (Pod, error) {
	text, err := os.ReadFile(n.file)
	if err != nil {
		return Pod{}, err
	}
	pods := map[string]Pod{}
	if err := json.Unmarshal(text, &pods); err != nil {
		return Pod{}, err
	}
	pod, known := pods[name]
	if !known {
		return Pod{}, fmt.Errorf("no pod %s runs here", name)
	}
	return pod, nil
}

// ExecInContainer runs a command with the environment of a container.
func (n node) ExecInContainer(ctx context.Context, name string, _ types.UID, container string, cmd []string,
	in io.Reader, out, err io.WriteCloser, _ bool, _ <-chan clientremotecommand.TerminalSize, _ time.Duration) error {
	pod, failure := n.pod(name)
	if failure != nil {
		return failure
	}
	environment, known := pod.Containers[container]
	if !known {
		return fmt.Errorf("pod %s has no container %s", name, container)
	}
	command := exec.CommandContext(ctx, "env", append(append([]string{"--ignore-environment"}, environment...), cmd...)...)
	command.Stdin, command.Stdout, command.Stderr = in, out, err
	failure = command.Run()
	if ended := (*exec.ExitError)(nil); errors.As(failure, &ended) {
		return utilexec.CodeExitError{Err: failure, Code: ended.ExitCode()}
	}
	return failure
}

// PortForward joins a stream to the address that stands for a port of a pod.
func (n node) PortForward(_ context.Context, name string, _ types.UID, port int32, stream io.ReadWriteCloser) error {
	pod, failure := n.pod(name)
	if failure != nil {
		return failure
	}
	address, known := pod.Ports[port]
	if !known {
		return fmt.Errorf("nothing in pod %s listens at port %d", name, port)
	}
	connection, failure := net.Dial("tcp", address)
	if failure != nil {
		return failure
	}
	defer connection.Close()
	ended := make(chan error, 2)
	join := func(to io.Writer, from io.Reader) { _, err := io.Copy(to, from); ended <- err }
	go join(connection, stream)
	go join(stream, connection)
	return <-ended
}

func (n node) exec(w http.ResponseWriter, r *http.Request) {
	options, err := remotecommand.NewOptions(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	name := r.PathValue("namespace") + "/" + r.PathValue("pod")
	remotecommand.ServeExec(w, r, n, name, "", r.PathValue("container"), r.Form["command"], options, idle, creation,
		remotecommandconsts.SupportedStreamingProtocols)
}

func (n node) portForward(w http.ResponseWriter, r *http.Request) {
	options, err := portforward.NewV4Options(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	name := r.PathValue("namespace") + "/" + r.PathValue("pod")
	portforward.ServePortForward(w, r, n, name, "", options, idle, creation, portforward.SupportedProtocols)
}

func main() {
	address := flag.String("address", "", "host:port to serve at")
	certificate := flag.String("cert", "", "certificate, PEM")
	key := flag.String("key", "", "its key, PEM")
	file := flag.String("pods", "", "JSON: Pod by NAMESPACE/NAME")
	flag.Parse()
	here := node{*file}
	routes := http.NewServeMux()
	routes.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	routes.HandleFunc("/exec/{namespace}/{pod}/{container}", here.exec)
	routes.HandleFunc("/portForward/{namespace}/{pod}", here.portForward)
	// HTTP/1.1 alone: the streams are an upgrade of it.
	server := http.Server{Addr: *address, Handler: routes, TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){}}
	log.Fatal(server.ListenAndServeTLS(*certificate, *key))
}

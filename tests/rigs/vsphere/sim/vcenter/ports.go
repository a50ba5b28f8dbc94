package vcenter

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
)

// freeAddress is one on loopback that stays free while nobody listens there.
//
// The kernel hands the ephemeral ports to clients, even to one that tries to reach that very port.
func freeAddress() (string, error) {
	const lowest = 10_000
	for range 100 {
		address := fmt.Sprintf("127.0.0.1:%d", lowest+rand.IntN(firstEphemeral()-lowest))
		if listener, err := net.Listen("tcp", address); err == nil {
			return address, listener.Close()
		}
	}
	return "", errors.New("no free port")
}

func firstEphemeral() int {
	text, _ := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if words := strings.Fields(string(text)); len(words) == 2 {
		if first, err := strconv.Atoi(words[0]); err == nil {
			return first
		}
	}
	return 32_768
}

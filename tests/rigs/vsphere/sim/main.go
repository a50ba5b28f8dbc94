// The sim is a vCenter or an ESXi host on loopback, with guests that behave as they are told.
//
// It reads what it is from a JSON file (vcenter.Config), says in another where it listens (vcenter.Ready), and ends
// on SIGTERM; everything it starts in guests ends with it.
package main

import (
	"encoding/json"
	"log"
	"os"
	"os/signal"
	"syscall"

	"vmpower/tests/rigs/vsphere/sim/vcenter"
)

func main() {
	log.SetFlags(log.Ltime | log.Lmicroseconds)
	if len(os.Args) != 3 {
		log.Fatalf("usage: %s CONFIG READY", os.Args[0])
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		log.Fatal(err)
	}
}

func run(config, ready string) error {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM, syscall.SIGINT)
	text, err := os.ReadFile(config)
	if err != nil {
		return err
	}
	var wanted vcenter.Config
	if err := vcenter.Decode(text, &wanted); err != nil {
		return err
	}
	v, err := vcenter.New(wanted)
	if err != nil {
		return err
	}
	defer v.Close()
	if err := announce(ready, v.Ready()); err != nil {
		return err
	}
	<-ended
	return nil
}

// announce makes the file appear as a whole.
func announce(path string, ready vcenter.Ready) error {
	text, err := json.Marshal(ready)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".half", text, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".half", path)
}

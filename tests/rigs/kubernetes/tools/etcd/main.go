// etcd, under its own name: upstream's main package is go.etcd.io/etcd/server/v3, which Go would call `server`.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() {
	etcdmain.Main(os.Args)
}

// Healthy: ten idle connections that only TCP keep-alive probes touch; a request each four seconds.
package main

import (
	"database/sql"
	"net"
	"sync"
	"time"

	"github.com/lib/pq"
)

type dialer struct{ net.Dialer }

func (d *dialer) DialTimeout(network, address string, timeout time.Duration) (net.Conn, error) {
	return (&net.Dialer{Timeout: timeout, KeepAlive: time.Second}).Dial(network, address)
}

func main() {
	start()
	connector, err := pq.NewConnector("")
	must(err)
	connector.Dialer(&dialer{})
	db := sql.OpenDB(connector)
	db.SetMaxIdleConns(10)
	var clients sync.WaitGroup
	for client := 0; client < 10; client++ {
		clients.Add(1)
		go func() { defer clients.Done(); db.Exec("select pg_sleep(0.5)") }()
	}
	clients.Wait()
	for {
		time.Sleep(4 * time.Second)
		_, err := db.Exec("select 1")
		must(err)
	}
}

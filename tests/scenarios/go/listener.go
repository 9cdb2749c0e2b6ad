// Healthy: lib/pq listeners, which ping now and then, started one after the other beside a pool with a keep-alive.
package main

import (
	"time"

	"github.com/lib/pq"
)

func main() {
	start()
	db := open()
	for number := 0; ; number++ {
		if number < 5 {
			listener := pq.NewListener("", time.Second, time.Minute, nil)
			must(listener.Listen("topic"))
			go func() {
				for range time.Tick(6 * time.Second) {
					must(listener.Ping())
				}
			}()
		}
		_, err := db.Exec("select 1")
		must(err)
		time.Sleep(time.Second)
	}
}

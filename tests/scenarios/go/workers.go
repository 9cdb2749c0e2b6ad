// Healthy: eight workers with a connection each, started a third of a second apart; each works each five seconds.
package main

import (
	"context"
	"time"
)

func main() {
	start()
	db := open()
	for worker := 0; worker < 8; worker++ {
		go func() {
			conn, err := db.Conn(context.Background())
			must(err)
			for {
				_, err = conn.ExecContext(context.Background(), "select 1")
				must(err)
				time.Sleep(5 * time.Second)
			}
		}()
		time.Sleep(300 * time.Millisecond)
	}
	select {}
}

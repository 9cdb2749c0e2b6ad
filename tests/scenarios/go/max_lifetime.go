// Healthy: five idle connections with a lifetime of three seconds, asked in turns by waves of load.
package main

import (
	"sync"
	"time"
)

func main() {
	start()
	db := open()
	db.SetMaxOpenConns(5)
	db.SetMaxIdleConns(5)
	db.SetConnMaxLifetime(3 * time.Second)
	for wave := 0; ; wave++ {
		var clients sync.WaitGroup
		for client := 0; client <= wave%5; client++ {
			clients.Add(1)
			go func() {
				defer clients.Done()
				_, err := db.Exec("select pg_sleep(0.1)")
				must(err)
			}()
		}
		clients.Wait()
		time.Sleep(700 * time.Millisecond)
	}
}

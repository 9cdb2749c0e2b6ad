// Healthy: eight at once, but only two may stay idle: connections are opened and closed all the time.
package main

import "time"

func main() {
	start()
	db := open()
	db.SetMaxIdleConns(2)
	for client := 0; client < 8; client++ {
		go func(pause time.Duration) {
			for {
				_, err := db.Exec("select pg_sleep(0.03)")
				must(err)
				time.Sleep(pause)
			}
		}(time.Duration(20+15*client) * time.Millisecond)
	}
	time.Sleep(10 * time.Minute)
}

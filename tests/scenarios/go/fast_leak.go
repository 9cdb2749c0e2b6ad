// Leak, fast: eight a second, each held by a goroutine that is blocked for ever; requests beside it.
package main

import (
	"context"
	"time"
)

func main() {
	start()
	db := open()
	never := make(chan int)
	for number := 1; number <= 120; number++ {
		_, err := db.Exec("select 1")
		must(err)
		conn, err := db.Conn(context.Background())
		must(err)
		_, err = conn.ExecContext(context.Background(), "select 2")
		must(err)
		go func() { <-never; conn.Close() }() // the bug
		leaked(number)
		time.Sleep(125 * time.Millisecond)
	}
	<-never
}

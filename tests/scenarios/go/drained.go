// Leak (unreturned): a pool limited to eight; a goroutine that waits for an answer that never comes holds each.
package main

import (
	"context"
	"time"
)

func main() {
	start()
	db := open()
	db.SetMaxOpenConns(8)
	db.SetMaxIdleConns(8)
	never := make(chan int)
	for number := 1; ; number++ {
		conn, err := db.Conn(context.Background()) // waits for ever when all eight are gone
		must(err)
		_, err = conn.ExecContext(context.Background(), "select 1")
		must(err)
		if number%3 == 0 {
			go func() { <-never; conn.Close() }() // the bug
			leaked(number / 3)
		} else {
			must(conn.Close())
		}
		time.Sleep(200 * time.Millisecond)
	}
}

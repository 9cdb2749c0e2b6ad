// Leak: sql.Open in the handler, as if it were a connection; each pool keeps its connection idle for ever.
package main

import "time"

func handle() {
	db := open() // the bug: made for each request, never closed
	var one int
	must(db.QueryRow("select 1").Scan(&one))
}

func main() {
	start()
	for number := 1; ; number++ {
		handle()
		leaked(number)
		time.Sleep(700 * time.Millisecond)
	}
}

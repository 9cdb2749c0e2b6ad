// Leak: each browser that subscribes gets a pq.Listener; when it goes away, every second handler returns without closing
// it. Over TLS, so that LISTEN cannot be seen on the wire; a small pool beside.
package main

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/lib/pq"
)

var lost atomic.Int32

func main() {
	start()
	db := open()
	db.SetMaxIdleConns(2)
	for number := 0; ; number++ {
		if number%2 == 0 {
			go subscribe(number / 2)
		}
		_, err := db.Exec("select 1")
		must(err)
		time.Sleep(200 * time.Millisecond)
	}
}

func subscribe(number int) {
	listener := pq.NewListener("", time.Second, time.Minute, nil)
	must(listener.Listen(fmt.Sprintf("room_%d", number%3)))
	time.Sleep(time.Second) // the browser stays for so long
	if number%2 == 0 {
		leaked(int(lost.Add(1)))
		return // the bug
	}
	must(listener.Close())
}

// Leak: a connection that was taken from redigo's pool is not closed when the key has another type than expected. The pool
// keeps three idle ones, tests them, and closes them after four seconds; traffic beside.
package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/gomodule/redigo/redis"
)

func main() {
	start()
	pool := &redis.Pool{
		MaxIdle:     3,
		IdleTimeout: 4 * time.Second,
		Dial: func() (redis.Conn, error) {
			return redis.Dial("tcp", "127.0.0.1:"+os.Getenv("REDIS_PORT"))
		},
		TestOnBorrow: func(conn redis.Conn, since time.Time) error {
			_, err := conn.Do("PING")
			return err
		},
	}
	lost := 0
	for number := 0; ; number++ {
		if cart(pool, number) != nil {
			lost++
			leaked(lost)
		}
		visit(pool)
		time.Sleep(200 * time.Millisecond)
	}
}

func cart(pool *redis.Pool, number int) error {
	conn := pool.Get()
	kind, err := redis.String(conn.Do("TYPE", fmt.Sprintf("cart:%d", number)))
	must(err)
	if kind == "none" && number%4 == 3 {
		return errors.New("no cart") // the bug: no Close on this way
	}
	return conn.Close()
}

func visit(pool *redis.Pool) {
	conn := pool.Get()
	defer conn.Close()
	_, err := conn.Do("INCR", "visits")
	must(err)
}

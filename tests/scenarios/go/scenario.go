package main

import (
	"bufio"
	"database/sql"
	"fmt"
	"os"

	_ "github.com/lib/pq"
)

// start says that all is loaded, and waits for the word to go.
func start() {
	fmt.Println("READY")
	bufio.NewReader(os.Stdin).ReadString('\n')
}

// leaked tells how many sockets this process has truly leaked by now.
func leaked(count int) {
	fmt.Println("LEAKED", count, os.Getpid())
}

// open makes a pool; lib/pq takes the server from PGHOST, PGPORT, PGUSER, PGDATABASE, PGSSLMODE.
func open() *sql.DB {
	db, err := sql.Open("postgres", "")
	must(err)
	return db
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

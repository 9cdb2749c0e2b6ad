// Leak: the first of several rows is all that is wanted; the rows are never closed. The pool has no limit.
package main

import (
	"database/sql"
	"time"
)

var kept []*sql.Rows

func latest(db *sql.DB) (value int) {
	rows, err := db.Query("select * from generate_series(1, 10)")
	must(err)
	if rows.Next() {
		must(rows.Scan(&value))
	}
	kept = append(kept, rows) // the bug: rows.Close() is missing
	return value
}

func main() {
	start()
	db := open()
	for {
		_, err := db.Exec("select 1")
		must(err)
		latest(db)
		leaked(len(kept))
		time.Sleep(600 * time.Millisecond)
	}
}

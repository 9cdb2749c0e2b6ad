// Leak: a validation fails after Begin, and the function returns without Rollback.
package main

import (
	"database/sql"
	"errors"
	"time"
)

var count int

func transfer(db *sql.DB, amount int) error {
	tx, err := db.Begin()
	must(err)
	_, err = tx.Exec("select $1::int", amount)
	must(err)
	if amount%4 == 0 {
		count++
		return errors.New("limit exceeded") // the bug: neither Commit nor Rollback
	}
	return tx.Commit()
}

func main() {
	start()
	db := open()
	for amount := 1; ; amount++ {
		if transfer(db, amount) != nil {
			leaked(count)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

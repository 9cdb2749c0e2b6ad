// Healthy: a monitoring agent as postgres_exporter. It has a connection for each database, asks on each once in four
// seconds, one after the other, and looks for new databases over a short connection before. A database is added later.
package main

import (
	"database/sql"
	"fmt"
	"time"
)

func main() {
	start()
	admin := open()
	for number := 0; number < 5; number++ {
		admin.Exec(fmt.Sprintf("create database watched_%d", number)) // may be there
	}
	must(admin.Close())

	watched := map[string]*sql.DB{}
	for round := 0; ; round++ {
		for _, name := range discover() {
			if watched[name] == nil && (round > 1 || name != "watched_4") {
				db, err := sql.Open("postgres", "dbname="+name)
				must(err)
				db.SetMaxOpenConns(1)
				watched[name] = db
			}
		}
		for _, db := range watched {
			var size int
			must(db.QueryRow("select pg_database_size(current_database())").Scan(&size))
			must(db.QueryRow("select count(*) from pg_stat_user_tables").Scan(&size))
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(3500 * time.Millisecond)
	}
}

func discover() (names []string) {
	db := open()
	defer db.Close()
	rows, err := db.Query("select datname from pg_database where datname like 'watched_%' order by 1")
	must(err)
	defer rows.Close()
	for rows.Next() {
		var name string
		must(rows.Scan(&name))
		names = append(names, name)
	}
	return names
}

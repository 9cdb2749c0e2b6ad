// Leak: createPool() in the handler; nobody calls end().
'use strict'
const mysql = require('mysql2/promise')
const { go, leaked, mysql: server, sleep } = require('./scenario')

async function handle() {
  const pool = mysql.createPool({ ...server, idleTimeout: 3600_000 }) // the bug: a pool for one query
  await pool.query('select 1')
}

async function main() {
  await go()
  for (let number = 1; ; number++) {
    await handle()
    leaked(number)
    await sleep(900)
  }
}
main()

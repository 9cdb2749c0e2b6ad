// Leak (unreturned): a pool of ten; each fifth request keeps its connection; when none is left all requests wait.
'use strict'
const mysql = require('mysql2/promise')
const { go, leaked, mysql: server, sleep } = require('./scenario')

const pool = mysql.createPool({ ...server, connectionLimit: 10, idleTimeout: 3600_000 })
let count = 0

async function handle(number) {
  const connection = await pool.getConnection()
  await connection.query('select 1')
  if (number % 5 === 0) return leaked(++count) // the bug
  connection.release()
}

async function main() {
  await go()
  await Promise.all(Array.from({ length: 10 }, () => pool.query('select sleep(0.1)')))
  for (let number = 1; ; number++) {
    await handle(number)
    await sleep(120)
  }
}
main()

// Healthy: a pool of ten, used by a few requests a second with a burst each six seconds.
'use strict'
const mysql = require('mysql2/promise')
const { go, mysql: server, sleep } = require('./scenario')

const pool = mysql.createPool({ ...server, connectionLimit: 10, idleTimeout: 3600_000 })
const request = () => pool.query('select sleep(0.05)')

async function main() {
  await go()
  for (let number = 0; ; number++) {
    await Promise.all(Array.from({ length: number % 20 === 0 ? 30 : 1 }, request))
    await sleep(300)
  }
}
main()

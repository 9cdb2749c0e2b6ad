// Healthy: a burst grows the pool to fifteen; idle clients are closed after eight seconds; one query a second goes on.
'use strict'
const { Pool } = require('pg')
const { go, sleep } = require('./scenario')

const pool = new Pool({ max: 15, idleTimeoutMillis: 8000 })
const query = () => pool.query('select pg_sleep(0.2)')

async function main() {
  await go()
  for (let second = 0; ; second++) {
    const clients = second % 15 < 2 ? 15 : 1
    await Promise.all(Array.from({ length: clients }, query))
    await sleep(800)
  }
}
main()

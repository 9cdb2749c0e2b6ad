// Leak in generations: each three seconds the configuration is loaded again, and a new pool made; nobody ends the old one,
// which keeps its four idle clients for ever.
'use strict'
const { Pool } = require('pg')
const { go, leaked, sleep } = require('./scenario')

let pool
const old = []

function reload() {
  if (pool) old.push(pool) // the bug: no end()
  pool = new Pool({ max: 4, idleTimeoutMillis: 0 })
  leaked(old.reduce((sum, one) => sum + one.totalCount, 0))
}

function handle() {
  return pool.query('select 1 from pg_sleep(0.1)')
}

async function main() {
  await go()
  for (let tick = 0; ; tick++) {
    if (tick % 15 === 0) reload()
    for (let guest = 0; guest < 5; guest++) handle()
    await sleep(200)
  }
}
main()

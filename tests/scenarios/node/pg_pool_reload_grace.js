// Healthy: each three seconds the configuration is loaded again, and a new pool made; the old one is ended nine seconds later,
// so that those who took it in hand before can finish. So two or three old ones are at rest at any time.
'use strict'
const { Pool } = require('pg')
const { go, sleep } = require('./scenario')

let pool

function reload() {
  const old = pool
  pool = new Pool({ max: 4, idleTimeoutMillis: 0 })
  if (old) setTimeout(() => old.end(), 9000)
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

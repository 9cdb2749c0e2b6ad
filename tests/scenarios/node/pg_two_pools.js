// Healthy: a read and a write pool to one server, used in turns, each growing a little when the other rests.
'use strict'
const { Pool } = require('pg')
const { go, sleep } = require('./scenario')

const reads = new Pool({ max: 10, idleTimeoutMillis: 0, application_name: 'reads' })
const writes = new Pool({ max: 10, idleTimeoutMillis: 0, application_name: 'writes' })

async function main() {
  await go()
  for (let turn = 0; ; turn++) {
    const pool = turn % 2 ? writes : reads
    const clients = Math.min(1 + Math.floor(turn / 2), 4)
    for (let round = 0; round < 12; round++) {
      await Promise.all(Array.from({ length: clients }, () => pool.query('select pg_sleep(0.1)')))
      await sleep(100)
    }
  }
}
main()

// Healthy: a pool for the primary, one for its replica (the same server on ::1). After six seconds the replica falls behind,
// and all reads go to the primary; the replica's connections rest, but for a check each three seconds, until it is well
// again after nine more.
'use strict'
const { Pool } = require('pg')
const { go, sleep } = require('./scenario')

const options = { max: 8, idleTimeoutMillis: 0 }
const primary = new Pool(options)
const replica = new Pool({ ...options, host: '::1' })

const read = (pool) => pool.query('select 1 from pg_sleep(0.25)')

async function main() {
  await go()
  for (let tick = 0; ; tick++) {
    const well = tick < 60 || tick >= 150
    if (tick % 5 === 0) primary.query('select 1') // a write
    if (tick % 30 === 0) replica.query('select pg_last_wal_replay_lsn()')
    read(well ? replica : primary)
    if (tick % 2) read(well ? replica : primary)
    await sleep(100)
  }
}
main()

// Leak: a pool of sixty; a handler that throws between connect() and release() keeps its client.
'use strict'
const { Pool } = require('pg')
const { go, leaked, sleep } = require('./scenario')

const pool = new Pool({ max: 60, idleTimeoutMillis: 0 })
let count = 0

async function handle(number) {
  const client = await pool.connect()
  const { rows } = await client.query('select $1::int as amount', [number])
  if (rows[0].amount % 3 === 0) throw new Error('bad amount') // the bug: release() is not in a finally
  client.release()
}

async function main() {
  await go()
  for (let number = 1; ; number++) {
    await handle(number).catch(() => leaked(++count))
    await sleep(200)
  }
}
main()

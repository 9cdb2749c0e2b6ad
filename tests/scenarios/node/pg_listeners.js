// Healthy: six listeners, each for a channel of its own, started one after the other; a pool beside them.
'use strict'
const { Client, Pool } = require('pg')
const { go, sleep } = require('./scenario')

const pool = new Pool({ max: 4 })

async function main() {
  await go()
  for (let second = 0; ; second++) {
    if (second < 6) {
      const listener = new Client()
      await listener.connect()
      await listener.query(`listen topic_${second}`)
    }
    await pool.query('select 1')
    await sleep(900)
  }
}
main()

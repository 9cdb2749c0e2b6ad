// Leak: a Client for each request; end() is not called when the answer is empty.
'use strict'
const { Client } = require('pg')
const { go, leaked, sleep } = require('./scenario')

let count = 0

async function find(number) {
  const client = new Client()
  await client.connect()
  const { rows } = await client.query('select 1 where $1::int % 2 = 0', [number])
  if (rows.length === 0) return leaked(++count) // the bug
  await client.end()
}

async function main() {
  await go()
  for (let number = 1; ; number++) {
    await find(number)
    await sleep(350)
  }
}
main()

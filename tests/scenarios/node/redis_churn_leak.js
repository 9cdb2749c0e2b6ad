// Leak under churn: fifty clients a second, each of which quits, and once a second one that does not.
'use strict'
const Redis = require('ioredis').Redis
const { go, leaked, redis: server, sleep } = require('./scenario')

const forgotten = []

async function handle(number) {
  const client = new Redis(server)
  await client.incr('page')
  if (number % 50 === 49) {
    forgotten.push(client) // the bug
    leaked(forgotten.length)
    return
  }
  await client.quit()
}

async function main() {
  await go()
  for (let number = 0; ; number++) {
    handle(number)
    await sleep(20)
  }
}
main()

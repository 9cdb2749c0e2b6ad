// Leak: a Redis client for each request, never told to quit.
'use strict'
const Redis = require('ioredis').Redis
const { go, leaked, redis: server, sleep } = require('./scenario')

async function handle(number) {
  const redis = new Redis(server) // the bug
  await redis.set(`page:${number}`, 'x')
}

async function main() {
  await go()
  for (let number = 1; ; number++) {
    await handle(number)
    leaked(number)
    await sleep(500)
  }
}
main()

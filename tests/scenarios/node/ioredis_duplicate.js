// Leak: each transaction gets a connection of its own, a duplicate() of the shared one, since WATCH needs that. When there is
// nothing in stock the function returns without disconnect().
'use strict'
const Redis = require('ioredis')
const { go, leaked, redis: where, sleep } = require('./scenario')

let lost = 0

async function transfer(redis, number) {
  const own = redis.duplicate()
  await own.watch('stock')
  const stock = number % 3
  if (stock === 0) {
    await own.unwatch()
    lost += 1
    return leaked(lost) // the bug
  }
  await own.multi().set('stock', stock).get('stock').exec()
  own.disconnect()
}

async function main() {
  await go()
  const redis = new Redis(where)
  for (let number = 0; ; number++) {
    await redis.incr('requests')
    await transfer(redis, number)
    await sleep(220)
  }
}
main()

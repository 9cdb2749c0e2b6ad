// Healthy: three MONITOR connections, opened one after the other, which hear everything; a client that sets keys.
'use strict'
const Redis = require('ioredis').Redis
const { go, redis: server, sleep } = require('./scenario')

async function main() {
  await go()
  const commands = new Redis(server)
  for (let number = 0; ; number++) {
    if (number % 4 === 0 && number < 12) await new Redis(server).monitor()
    await commands.set('key', number)
    await sleep(500)
  }
}
main()

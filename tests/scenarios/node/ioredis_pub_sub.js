// Healthy: six subscribers, each on a quiet channel, started a second apart; commands on a client of their own.
'use strict'
const Redis = require('ioredis').Redis
const { go, redis: server, sleep } = require('./scenario')

async function main() {
  await go()
  const commands = new Redis(server)
  for (let second = 0; ; second++) {
    if (second < 6) await new Redis(server).subscribe(`topic:${process.pid}:${second}`)
    await commands.incr('page')
    if (second % 10 === 9) await commands.publish(`topic:${process.pid}:1`, 'news')
    await sleep(1000)
  }
}
main()

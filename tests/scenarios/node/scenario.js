// What the Node scenarios share: waiting for the word to go, a rhythm, the truth about leaks, where the servers are.
'use strict'
exports.mysql = { host: '127.0.0.1', port: Number(process.env.MYSQL_PORT), user: 'root', database: 'mysql' }
exports.redis = { host: '127.0.0.1', port: Number(process.env.REDIS_PORT) }
exports.sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))
exports.leaked = (count) => console.log(`LEAKED ${count} ${process.pid}`)
exports.go = () => {
  console.log('READY')
  return new Promise((resolve) => process.stdin.once('data', resolve))
}

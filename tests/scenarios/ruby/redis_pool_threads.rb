# Leak: connection_pool knows by thread who has a connection. A short-lived thread that checks one out and fails before it
# checks it in takes it to its grave; the pool of sixty makes another.
require 'connection_pool'
require 'redis'
require_relative 'scenario'

POOL = ConnectionPool.new(size: 60, timeout: 1) { Redis.new(port: ENV['REDIS_PORT'].to_i) }
Thread.report_on_exception = false

def render(number)
  redis = POOL.checkout
  redis.incr('rendered')
  raise 'no template' if number % 4 == 0 # the bug: no ensure

  POOL.checkin
end

go
lost = 0
(1..).each do |number|
  begin
    Thread.new { render(number) }.join
  rescue RuntimeError
    leaked(lost += 1)
  end
  POOL.with(&:ping)
  sleep 0.2
end

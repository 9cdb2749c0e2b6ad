# Healthy: a sharded client. Each of ten shards (here: Redis's numbered databases) gets a connection when its first key is
# asked for; the first shard is asked ten times a second, the last once in nine.
require 'redis'
require_relative 'scenario'

EVERY = [1, 2, 3, 5, 8, 13, 21, 34, 55, 89].freeze # ticks of 0.1 s
SHARDS = {}

def shard(number)
  SHARDS[number] ||= Redis.new(port: ENV['REDIS_PORT'].to_i, db: number)
end

go
(0..).each do |tick|
  EVERY.each_with_index do |ticks, number|
    shard(number).incr('seen') if tick % ticks == ticks / 2
  end
  sleep 0.1
end

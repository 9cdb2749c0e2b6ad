# Healthy: Sequel's threaded pool of eight; more threads in waves, each giving its connection back.
require 'sequel'
require_relative 'scenario'

DB = Sequel.connect("postgres://postgres@127.0.0.1:#{ENV['PGPORT']}/postgres", max_connections: 8)

go
(0..).each do |wave|
  threads = (0..(wave * 3) % 8).map { Thread.new { DB.fetch('select pg_sleep(0.1)').all } }
  threads.each(&:join)
  sleep 0.8
end

# Leak: Sequel.connect for each request. Sequel keeps every database that it has made, and each keeps its pool.
require 'sequel'
require_relative 'scenario'

URL = "postgres://postgres@127.0.0.1:#{ENV['PGPORT']}/postgres"

def handle
  Sequel.connect(URL)[:pg_class].count # the bug: without a block and without disconnect
end

go
(1..).each do |number|
  handle
  leaked(number)
  sleep 0.6
end

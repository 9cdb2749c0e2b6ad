# Leak: when a statement fails, the rescue path logs and goes on; the failed job keeps its connection for a retry
# that never comes.
require 'pg'
require_relative 'scenario'

Job = Struct.new(:number, :connection)
FAILED = []

def run(job)
  job.connection = PG.connect
  job.connection.exec("select 1 / (#{job.number} % 3)")
  job.connection.close
rescue PG::Error
  FAILED << job # the bug
end

go
(1..).each do |number|
  run(Job.new(number))
  leaked(FAILED.size) if number % 3 == 0
  sleep 0.25
end

# Healthy: one connection for each of four roles, opened when it is first needed, a second apart, and used in turns.
require 'pg'
require_relative 'scenario'

CACHE = Hash.new { |cache, role| cache[role] = PG.connect(application_name: role) }
ROLES = %w[reader writer auditor admin]

go
(0..).each do |number|
  CACHE[ROLES[number % 4]].exec('select 1')
  sleep 1
end

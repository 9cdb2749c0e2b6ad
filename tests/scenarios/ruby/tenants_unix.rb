# Healthy: a connection for each of eight tenants, over the unix-domain socket; each comes again after 6.4 s.
require_relative 'scenario'
require 'pg'

tenants = Hash.new { |all, tenant| all[tenant] = PG.connect(application_name: "tenant-#{tenant}") }
go
(0..).each do |number|
  tenants[number % 8].exec('select 1')
  sleep 0.8
end

# What the Ruby scenarios share: waiting for the word to go, and the truth about leaks.
$stdout.sync = true

def go
  puts 'READY'
  $stdin.gets
end

def leaked(count)
  puts "LEAKED #{count} #{Process.pid}"
end

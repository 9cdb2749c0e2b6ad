# Keeps one database server for one test process: keeper.sh FOLDER SIGNAL SERVER ARG...
#
# Standard input is a pipe from the test process. It ends when the test drops the server, and also when the test
# process dies in any way, so that no server and no folder outlives it, not even one shared through a static.
trap '' INT HUP
folder=$1
signal=$2
shift 2
"$@" </dev/null >"$folder/server.log" 2>&1 &
server=$!
cat >/dev/null
exec 2>/dev/null # the shell would report how its server ended
kill -s "$signal" "$server"
wait "$server"
rm -rf "$folder"

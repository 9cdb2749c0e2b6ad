#!/bin/sh
# Healthy: a receiver of the write-ahead log waits for what seldom comes; a short session each second beside it.
echo READY
read -r _
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
pg_receivewal -D "$folder" --no-loop --no-password &
while sleep 1; do
    psql -qAtc 'select 1' >/dev/null
done

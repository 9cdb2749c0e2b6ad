#!/bin/sh
# Healthy: a script, as of cron, each second: connect, ask, end.
echo READY
read -r _
while sleep 1; do
    psql -qAtc 'select count(*) from pg_class' >/dev/null
done

"""Healthy: a primary session does all the work; two standby sessions were opened later and wait. One short
connection a second."""

import psycopg
from corpus import every, go

go()
kept = []
for number in every(1):
    if number in (0, 2, 4):
        session = psycopg.connect(autocommit=True)
        session.execute("select pg_backend_pid()")
        kept.append(session)
    kept[0].execute("select 1")
    with psycopg.connect(autocommit=True) as connection:
        connection.execute("select 2")

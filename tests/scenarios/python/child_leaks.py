"""Leak in a child only: a web application forks a mailer, which opens a connection for each mail and forgets it. The
parent's pool of four is in use all the time, and the child has inherited it without ever touching it."""

import os

import psycopg
from corpus import every, go, leaked
from psycopg_pool import ConnectionPool


def mailer():
    kept = []
    for number in every(1):
        connection = psycopg.connect()
        connection.execute("select %s::int", [number])
        kept.append(connection)  # the bug
        leaked(len(kept))


go()
pool = ConnectionPool("", min_size=4, max_size=4, open=True)
pool.wait()
if os.fork() == 0:
    mailer()
for _ in every(0.1):
    with pool.connection() as connection:
        connection.execute("select 1")

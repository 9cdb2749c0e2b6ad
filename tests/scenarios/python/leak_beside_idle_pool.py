"""Leak: connections beside a pool of twenty that is idle most of the time. Only the leaked ones may be claimed."""

import psycopg
from corpus import every, go, leaked
from psycopg_pool import ConnectionPool

pool = ConnectionPool("", min_size=20, max_size=20, open=False)
audits = []


def audit():
    connection = psycopg.connect()
    connection.execute("select 1").fetchone()
    audits.append(connection)  # the bug


go()
pool.open(wait=True)
for number in every(1):
    if number % 5 == 0:
        with pool.connection() as connection:
            connection.execute("select 1").fetchone()
    audit()
    leaked(len(audits))

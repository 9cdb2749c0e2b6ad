"""Leak: ten healthy seconds (an hour, compressed), then a feature is switched on that forgets its connections."""

import time

import psycopg
from corpus import every, go, leaked
from psycopg_pool import ConnectionPool

HEALTHY = 10
pool = ConnectionPool("", min_size=4, max_size=8, open=False)
exports = []


def page():
    with pool.connection() as connection:
        connection.execute("select 1").fetchone()


def export():
    connection = psycopg.connect()
    connection.execute("select 2").fetchone()
    exports.append(connection)  # the bug


go()
pool.open(wait=True)
start = time.monotonic()
for number in every(0.1):
    page()
    if time.monotonic() - start > HEALTHY and number % 6 == 0:
        export()
        leaked(len(exports))

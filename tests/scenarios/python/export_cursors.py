"""Healthy: slow exports. Each has a cursor on a connection of its own, fetches the next rows every three seconds as the reader
on the other side takes them, and closes when it has had five lots; one starts each 2.5 s. Short requests run beside."""

import threading
import time

import psycopg
from corpus import every, go
from psycopg_pool import ConnectionPool

pool = ConnectionPool("", min_size=2, max_size=4, open=False)


def export():
    with psycopg.connect() as connection, connection.cursor("export") as cursor:
        cursor.execute("select generate_series(1, 100000)")
        for _ in range(5):
            cursor.fetchmany(2000)
            time.sleep(3)  # the reader


go()
pool.open(wait=True)
for number in every(0.25):
    if number % 10 == 0:
        threading.Thread(target=export, daemon=True).start()
    with pool.connection() as connection:
        connection.execute("select 1")

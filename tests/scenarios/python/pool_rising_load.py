"""Healthy: load rises for twelve seconds and stays; the pool grows with it from one connection to twelve."""

import threading

from corpus import every, go
from psycopg_pool import ConnectionPool

pool = ConnectionPool("", min_size=1, max_size=12, open=False)


def client():
    for _ in every(0.2):
        with pool.connection() as connection:
            connection.execute("select pg_sleep(0.19)")


go()
pool.open(wait=True)
for number in every(1):
    if number < 12:
        threading.Thread(target=client, daemon=True).start()

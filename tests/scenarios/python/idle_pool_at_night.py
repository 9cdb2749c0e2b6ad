"""Healthy: a pool of thirty, busy by day (four seconds), then asleep but for one small job each three seconds."""

import time
from concurrent.futures import ThreadPoolExecutor

from corpus import every, go
from psycopg_pool import ConnectionPool

pool = ConnectionPool("", min_size=30, max_size=30, open=False)


def page(_):
    with pool.connection() as connection:
        connection.execute("select pg_sleep(0.02)")


go()
pool.open(wait=True)
with ThreadPoolExecutor(30) as threads:
    day = time.monotonic()
    while time.monotonic() - day < 4:
        list(threads.map(page, range(60)))
for _ in every(3):
    page(None)

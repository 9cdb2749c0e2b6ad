"""Healthy: eight clients of a pgbouncer share its server connections; load comes in waves."""

from concurrent.futures import ThreadPoolExecutor

from corpus import every, go
from psycopg_pool import ConnectionPool

pool = ConnectionPool("", min_size=8, max_size=8, open=False, kwargs={"prepare_threshold": None})


def request(_):
    with pool.connection() as connection:
        connection.execute("select pg_sleep(0.1)")


go()
pool.open(wait=True)
with ThreadPoolExecutor(8) as threads:
    for number in every(1):
        list(threads.map(request, range(1 + number % 8)))

"""Leak: a pool of two is made for each request; its worker threads keep it alive for ever."""

from corpus import every, go, leaked
from psycopg_pool import ConnectionPool


def handle():
    pool = ConnectionPool("", min_size=2, max_size=4, num_workers=1, open=True)
    pool.wait()
    with pool.connection() as connection:
        connection.execute("select 1").fetchone()
    pools.append(pool)  # the bug: pool.close() is missing


pools = []
go()
for _ in every(1.5):
    handle()
    leaked(2 * len(pools))

"""Healthy: a pool of ten whose connections are all checked each second and a half, and which is otherwise idle."""

from corpus import every, go
from psycopg_pool import ConnectionPool

go()
pool = ConnectionPool("", min_size=10, max_size=10, open=True)
pool.wait()
for number in every(1.5):
    pool.check()
    if number % 4 == 0:
        with pool.connection() as connection:
            connection.execute("select 1").fetchone()

"""Healthy: a pool of eight under light load that replaces each connection after about four seconds."""

from corpus import every, go
from psycopg_pool import ConnectionPool

go()
pool = ConnectionPool("", min_size=8, max_size=8, max_lifetime=4, open=True)
pool.wait()
for _ in every(0.5):
    with pool.connection() as connection:
        connection.execute("select 1").fetchone()

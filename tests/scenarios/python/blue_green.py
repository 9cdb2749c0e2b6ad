"""Healthy: every seven seconds a new generation starts; the old one drains for four seconds, then ends."""

import os
import time

from corpus import every, go
from psycopg_pool import ConnectionPool


def generation():
    pool = ConnectionPool("", min_size=6, max_size=6, open=True)
    pool.wait()
    for number in every(0.25):
        if number < 28:
            with pool.connection() as connection:
                connection.execute("select 1").fetchone()
        if number == 44:
            pool.close()
            os._exit(0)


go()
for _ in every(7):
    if os.fork() == 0:
        generation()

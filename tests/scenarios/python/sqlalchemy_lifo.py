"""Healthy: a last-in-first-out pool of twelve. Load falls step by step, so connections fall idle one by one."""

from concurrent.futures import ThreadPoolExecutor

import sqlalchemy
from corpus import PG_URL, every, go

engine = sqlalchemy.create_engine(PG_URL, pool_size=12, max_overflow=0, pool_use_lifo=True)


def request(_):
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text("select pg_sleep(0.2)"))


go()
with ThreadPoolExecutor(12) as threads:
    for number in every(0.5):
        list(threads.map(request, range(max(1, 12 - number // 2))))

"""Healthy: a first-in-first-out pool of ten goes round under light load."""

from concurrent.futures import ThreadPoolExecutor

import sqlalchemy
from corpus import PG_URL, every, go

engine = sqlalchemy.create_engine(PG_URL, pool_size=10, max_overflow=0)


def request(_):
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text("select pg_sleep(0.05)"))


go()
with ThreadPoolExecutor(10) as threads:
    list(threads.map(request, range(30)))
for _ in every(0.5):
    request(None)

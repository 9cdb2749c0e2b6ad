"""Healthy: a pool of four with an overflow of eight, which is opened in each burst and closed after it."""

from concurrent.futures import ThreadPoolExecutor

import sqlalchemy
from corpus import PG_URL, every, go

engine = sqlalchemy.create_engine(PG_URL, pool_size=4, max_overflow=8)


def request(_):
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text("select pg_sleep(0.1)"))


go()
with ThreadPoolExecutor(12) as threads:
    for burst in every(3):
        list(threads.map(request, range(12)))

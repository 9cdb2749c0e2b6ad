"""Leak in generations: each report makes a pool of three for its queries, which run side by side, and drops it without a
dispose(). An engine that is never forgotten by its cache keeps its connections."""

from concurrent.futures import ThreadPoolExecutor

import sqlalchemy
from corpus import PG_URL, every, go, leaked

cache = {}
main = sqlalchemy.create_engine(PG_URL, pool_size=2)
requests = ThreadPoolExecutor(4)
queries = ThreadPoolExecutor(6)
count = 0


def ask(engine, seconds):
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text(f"select pg_sleep({seconds})"))


def report(number):
    global count
    engine = sqlalchemy.create_engine(PG_URL, pool_size=3)
    cache[number] = engine  # the bug: by number, so that it is never found again
    list(queries.map(lambda part: ask(engine, 0.2 + part * 0.1), range(3)))
    count += 3
    leaked(count)


go()
for tick in every(0.4):
    requests.submit(ask, main, 0.05)
    if tick % 6 == 0:
        requests.submit(report, tick)

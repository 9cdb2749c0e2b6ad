"""Leak (unreturned): a pool of ten; eight are checked out for ever by failed imports, two carry all the load."""

import time

import sqlalchemy
from corpus import PG_URL, every, go, leaked

engine = sqlalchemy.create_engine(PG_URL, pool_size=10, max_overflow=0)
failed = []


def load(connection=None):
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text("select 1"))


def failing_import():
    connection = engine.connect()
    connection.execute(sqlalchemy.text("select 2"))
    failed.append(connection)  # the bug


go()
warm = [engine.connect() for _ in range(10)]
for connection in warm:
    connection.close()
start = time.monotonic()
for number in every(0.1):
    load()
    if number % 10 == 0 and len(failed) < 8:
        failing_import()
        leaked(len(failed))

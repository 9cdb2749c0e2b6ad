"""Leak: a preview shows the first twenty rows of a generator, and keeps the generator for a second page that hardly
anybody asks for. Each holds its connection, with a cursor open at the server."""

from itertools import islice

from corpus import PG_URL, every, go, leaked
from sqlalchemy import create_engine, text

engine = create_engine(PG_URL, pool_size=5, max_overflow=60)
previews = {}


def rows():
    with engine.connect().execution_options(stream_results=True) as connection:
        yield from connection.execute(text("select generate_series(1, 100000)"))


def preview(user):
    previews[user] = rows()  # the bug: never exhausted, never closed
    return list(islice(previews[user], 20))


def page():
    with engine.connect() as connection:
        connection.execute(text("select count(*) from pg_class"))


go()
for number in every(0.2):
    page()
    if number % 4 == 0:
        preview(number)
        leaked(len(previews))

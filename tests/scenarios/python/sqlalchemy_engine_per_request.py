"""Leak: engines are cached by URL, and the URL names the request: each request makes an engine with its pool."""

import functools

import sqlalchemy
from corpus import PG_URL, every, go, leaked


@functools.cache
def engine_for(application):
    return sqlalchemy.create_engine(f"{PG_URL}?application_name={application}")


def handle(number):
    with engine_for(f"request-{number}").connect() as connection:
        connection.execute(sqlalchemy.text("select 1"))


go()
for number in every(0.5):
    handle(number)
    leaked(number + 1)

"""Healthy: a report starts each two seconds on a connection of its own and takes half a minute; small queries beside."""

import threading

import psycopg
from corpus import every, go


def report():
    with psycopg.connect(autocommit=True) as connection:
        connection.execute("select pg_sleep(30)")


go()
for number in every(0.5):
    if number % 4 == 0:
        threading.Thread(target=report, daemon=True).start()
    with psycopg.connect() as connection:
        connection.execute("select 1").fetchone()

"""Healthy: three batch transactions that work for a moment each three and a half seconds; other requests come and go."""

import threading

import psycopg
from corpus import every, go


def batch(number):
    with psycopg.connect() as connection:
        for step in every(3.5):
            connection.execute("select %s::int", [step + number])


go()
for number in every(0.5):
    if number in (0, 2, 4):
        threading.Thread(target=batch, args=(number,), daemon=True).start()
    with psycopg.connect() as connection:
        connection.execute("select 1").fetchone()

"""Leak that stops: an import forgets ten connections in five seconds, and ends; they stay open. Traffic goes on."""

import psycopg
from corpus import every, go, leaked

kept = []


def import_file():
    connection = psycopg.connect()
    connection.execute("select 1").fetchone()
    kept.append(connection)  # the bug


go()
for number in every(0.5):
    if number < 10:
        import_file()
        leaked(len(kept))
    else:
        with psycopg.connect() as connection:
            connection.execute("select 2").fetchone()

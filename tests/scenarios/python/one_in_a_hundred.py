"""Leak: sixty requests a second, each with a connection of its own; one in a hundred is not closed."""

import psycopg
from corpus import every, go, leaked

timed_out = []


def handle(number):
    connection = psycopg.connect()
    connection.execute("select 1").fetchone()
    if number % 100 == 99:
        timed_out.append(connection)  # the bug: the time-out handler returns without closing
        leaked(len(timed_out))
    else:
        connection.close()


go()
for number in every(1 / 60):
    handle(number)

"""Leak under a server that ends idle sessions (idle_session_timeout, three seconds here): the forgotten connections are dead
soon, but nobody closes the client's end."""

import psycopg
from corpus import every, go, leaked

kept = []


def report(number):
    connection = psycopg.connect("options='-c idle_session_timeout=3000'", autocommit=True)
    connection.execute("select %s::int", [number])
    if number % 3 == 0:
        kept.append(connection)  # the bug
        leaked(len(kept))
        return
    connection.close()


go()
for number in every(0.25):
    report(number)

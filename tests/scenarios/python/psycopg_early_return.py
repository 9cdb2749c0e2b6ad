"""Leak: an early return leaves the request, with its connection, in the table of running requests."""

import psycopg
from corpus import every, go, leaked

running = {}


def handle(number):
    connection = running[number] = psycopg.connect(autocommit=True)
    if connection.execute("select %s::int %% 2", [number]).fetchone()[0] == 0:
        return  # the bug: nothing to do, so nothing is cleaned up either
    connection.execute("select 1")
    running.pop(number).close()


go()
for number in every(0.4):
    handle(number)
    leaked(len(running))

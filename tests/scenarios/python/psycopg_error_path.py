"""Leak: the error path of a handler forgets to close; the error reporter keeps the traceback, and so the frame."""

import psycopg
from corpus import every, go, leaked

reported = []


def handle(request):
    connection = psycopg.connect()
    amount = connection.execute("select %s::int", [request]).fetchone()[0]
    if amount % 3 == 0:
        raise ValueError(f"bad amount {amount}")  # the bug: nobody closes
    connection.close()


go()
for request in every(0.25):
    try:
        handle(request)
    except ValueError as error:
        reported.append(error)
        leaked(len(reported))

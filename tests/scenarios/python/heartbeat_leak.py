"""Leak: each import opens a connection with a heartbeat of its own, and forgets both. Requests beside it have a pool. The
heartbeat asks each 1.2 s, so that the server does not close it."""

import threading

import psycopg
from corpus import every, go, leaked
from psycopg_pool import ConnectionPool

pool = ConnectionPool(min_size=2, max_size=4, open=False)


def heartbeat(connection):
    for _ in every(1.2):
        connection.execute("select 1")


def start_import(number):
    connection = psycopg.connect(autocommit=True)
    for row in range(5):
        connection.execute("select %s::text", [f"row {row} of import {number}"])
    threading.Thread(target=heartbeat, args=(connection,), daemon=True).start()  # the bug: it never ends


go()
pool.open()
for number in every(0.2):
    with pool.connection() as connection:
        connection.execute("select count(*) from pg_class")
    if number % 5 == 0:
        start_import(number)
        leaked(number // 5 + 1)

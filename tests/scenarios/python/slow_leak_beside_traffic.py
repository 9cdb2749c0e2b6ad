"""Leak: one connection each three seconds, beside a busy pool of ten."""

import threading
import time

import psycopg
from corpus import every, go, leaked
from psycopg_pool import ConnectionPool

pool = ConnectionPool("", min_size=10, max_size=10, open=False)
reports = []


def traffic():
    while True:
        with pool.connection() as connection:
            connection.execute("select pg_sleep(0.01)")
        time.sleep(0.03)


def report():
    connection = psycopg.connect()
    connection.execute("select count(*) from pg_class").fetchone()
    reports.append(connection)  # the bug


go()
pool.open(wait=True)
for _ in range(8):
    threading.Thread(target=traffic, daemon=True).start()
for _ in every(3):
    report()
    leaked(len(reports))

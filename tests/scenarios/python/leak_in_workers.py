"""Leak in each of three preforked workers: each forgets one connection each two seconds."""

import os
import time

import psycopg
from corpus import every, go, leaked


def worker():
    kept = []
    for _ in every(2):
        connection = psycopg.connect()
        connection.execute("select 1").fetchone()
        kept.append(connection)  # the bug
        leaked(len(kept))


go()
for _ in range(3):
    if os.fork() == 0:
        worker()
time.sleep(600)

"""Leak: a batch each four seconds opens four connections at once, uses them, and forgets them."""

from concurrent.futures import ThreadPoolExecutor

import psycopg
from corpus import every, go, leaked

kept = []


def shard(number):
    connection = psycopg.connect()
    connection.execute("select pg_sleep(0.1)").fetchone()
    kept.append((number, connection))  # the bug


go()
with ThreadPoolExecutor(4) as threads:
    for _ in every(4):
        list(threads.map(shard, range(4)))
        leaked(len(kept))

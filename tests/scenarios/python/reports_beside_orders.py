"""Healthy: a pool for each of two databases of one server: orders are many, reports are rare, and both grow late."""

import threading
import time

from corpus import every, go
from psycopg_pool import ConnectionPool

orders = ConnectionPool("dbname=postgres", min_size=1, max_size=8, open=False)
reports = ConnectionPool("dbname=template1", min_size=1, max_size=4, open=False)


def work(pool, seconds):
    with pool.connection() as connection:
        connection.execute("select pg_sleep(%s)", [seconds])


def many():
    while True:
        work(orders, 0.15)
        time.sleep(0.02)


def together(count):
    threads = [threading.Thread(target=work, args=(reports, 0.3)) for _ in range(count)]
    for thread in threads:
        thread.start()


go()
orders.open(wait=True)
reports.open(wait=True)
for number in every(1):
    if number < 8:
        threading.Thread(target=many, daemon=True).start()
    if number % 4 == 0:
        together(1 + number // 4)

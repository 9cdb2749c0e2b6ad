"""Healthy: two pools in one process. One has been idle since its start-up; the other grows with its load."""

import threading
import time

from corpus import every, go
from psycopg_pool import ConnectionPool

go()
reports = ConnectionPool("", min_size=5, max_size=5, open=True)
reports.wait()
pages = ConnectionPool("", min_size=1, max_size=8, open=True)


def load():
    while True:
        with pages.connection() as connection:
            connection.execute("select pg_sleep(0.05)")


for number in every(1.5):
    if number < 6:
        threading.Thread(target=load, daemon=True).start()
    if number % 8 == 7:
        with reports.connection() as connection:
            connection.execute("select 1").fetchone()
    time.sleep(0.01)

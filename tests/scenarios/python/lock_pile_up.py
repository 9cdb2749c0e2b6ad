"""Healthy: a migration locks a table for nine seconds. Each request for it waits on a connection of its own meanwhile, so
that the pool opens one more each half second; all are answered when the lock goes, and what was too much is closed."""

import os
import threading
import time

from corpus import PG_URL, every, go
from sqlalchemy import create_engine, text

engine = create_engine(PG_URL, pool_size=4, max_overflow=40)
TABLE = f"piled_up_{os.getpid()}"


def migration():
    while True:
        with engine.begin() as connection:
            connection.execute(text(f"lock table {TABLE} in access exclusive mode"))
            time.sleep(9)
            connection.execute(text(f"comment on table {TABLE} is 'migrated'"))
        time.sleep(3)


def request():
    with engine.connect() as connection:
        connection.execute(text(f"select count(*) from {TABLE}"))


go()
with engine.begin() as connection:
    connection.execute(text(f"create table {TABLE} (number int)"))
threading.Thread(target=migration, daemon=True).start()
for _ in every(0.5):
    threading.Thread(target=request, daemon=True).start()

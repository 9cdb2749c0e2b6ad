"""Healthy: psycopg's pool over TLS. Twelve clients come in waves; the pool grows with each and shrinks by one
a second after it."""

import threading

from corpus import every, go
from psycopg_pool import ConnectionPool

pool = ConnectionPool("", min_size=2, max_size=10, max_idle=1, open=False)


def client(number):
    for tick in every(0.5):
        # Four are there always, the other eight for three seconds of ten.
        if number < 4 or tick % 20 < 6:
            with pool.connection() as connection:
                connection.execute("select 1 from pg_sleep(%s)", [0.05 + number / 50])


go()
pool.open(wait=True)
for number in range(12):
    threading.Thread(target=client, args=[number], daemon=True).start()
threading.Event().wait()

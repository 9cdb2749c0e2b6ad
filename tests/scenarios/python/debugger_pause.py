"""Healthy: an application is stopped for six seconds, as by a debugger, and goes on."""

import os
import signal
import threading
import time

from corpus import every, go
from psycopg_pool import ConnectionPool


def application():
    pool = ConnectionPool("", min_size=2, max_size=10, open=True)
    pool.wait()

    def load():
        while True:
            with pool.connection() as connection:
                connection.execute("select pg_sleep(0.02)")
            time.sleep(0.02)

    for _ in every(0.3, times=8):
        threading.Thread(target=load, daemon=True).start()
    time.sleep(600)


go()
child = os.fork()
if child == 0:
    application()
for second in every(1):
    if second % 10 == 4:
        os.kill(child, signal.SIGSTOP)
    if second % 10 == 0:
        os.kill(child, signal.SIGCONT)

"""Leak: a worker is killed by its supervisor; the helper that it forked lives on and keeps the session open."""

import os
import signal
import time

import psycopg
from corpus import every, go, leaked


def worker():
    connection = psycopg.connect()
    connection.execute("select 1").fetchone()
    if os.fork() == 0:
        leaked(1)  # the bug: the helper never needed the connection, and never ends
        while connection:
            time.sleep(60)
    time.sleep(60)


go()
for _ in every(1.5):
    child = os.fork()
    if child == 0:
        worker()
    time.sleep(0.7)
    os.kill(child, signal.SIGKILL)  # it did not answer its health check in time
    os.waitpid(child, 0)

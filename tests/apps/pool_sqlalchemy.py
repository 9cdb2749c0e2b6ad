"""pool_sqlalchemy.py URL: a healthy application. Twenty threads share SQLAlchemy's pool of twenty connections.

    bursts N    N bursts of queries from all threads at once, two seconds apart, then silence: BURST 1 ... BURST N
"""

import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import sqlalchemy

from commands import commands, say

THREADS = 20
PAUSE = 2.0

engine = sqlalchemy.create_engine(sys.argv[1], pool_size=THREADS, max_overflow=0)
together = threading.Barrier(THREADS)


def request(_):
    together.wait()  # all at once, so that the pool needs all its connections
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text("select pg_sleep(0.05)"))


with ThreadPoolExecutor(THREADS) as pool:
    for command, *arguments in commands():
        if command != "bursts":
            sys.exit(f"unknown command: {command}")
        for number in range(1, int(arguments[0]) + 1):
            if number > 1:
                time.sleep(PAUSE)
            list(pool.map(request, range(THREADS)))
            say(f"BURST {number}")

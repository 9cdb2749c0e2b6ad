"""Healthy: a master forks eight workers one after the other; each has one connection, some are seldom asked."""

import os
import random
import time

import psycopg
from corpus import every, go


def worker(number):
    connection = psycopg.connect(autocommit=True)
    while True:
        connection.execute("select 1").fetchone()
        time.sleep(random.uniform(0.1, 1.0) * (number + 1))


go()
for number in every(0.5, times=8):
    if os.fork() == 0:
        worker(number)
time.sleep(600)

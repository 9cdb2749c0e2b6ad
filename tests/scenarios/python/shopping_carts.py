"""Healthy: each shopper has a connection for his cart while he shops: four requests, with pauses. Two of three check out; who
just goes away is found by a sweep, when he has not asked for anything for eight seconds."""

import random
import threading
import time

import psycopg
from corpus import every, go

SWEPT_AFTER = 8
carts = {}
random.seed(5)


def shop(number):
    connection = psycopg.connect(autocommit=True)
    carts[number] = connection, time.monotonic()
    for _ in range(4):
        connection.execute("select 1")
        carts[number] = connection, time.monotonic()
        time.sleep(random.uniform(0.2, 1.2))
    if number % 3:
        del carts[number]
        connection.close()


def sweep():
    for number, (connection, last) in list(carts.items()):
        if time.monotonic() - last > SWEPT_AFTER:
            del carts[number]
            connection.close()


go()
for number in every(0.5):
    threading.Thread(target=shop, args=(number,), daemon=True).start()
    sweep()

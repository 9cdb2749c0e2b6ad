"""Leak: each shopper has a connection for his cart while he shops: four requests, with pauses. Two of three check out; of who
just goes away, the cart and its connection stay for ever."""

import random
import threading
import time

import psycopg
from corpus import every, go, leaked

carts = {}
left = 0
random.seed(5)


def shop(number):
    global left
    carts[number] = connection = psycopg.connect(autocommit=True)
    for _ in range(4):
        connection.execute("select 1")
        time.sleep(random.uniform(0.2, 1.2))
    if number % 3:
        del carts[number]
        connection.close()
    else:
        left += 1  # the bug: nobody looks for carts that were left
        leaked(left)


go()
for number in every(0.5):
    threading.Thread(target=shop, args=(number,), daemon=True).start()

"""Healthy: eight workers, started one a second, block on queues where something arrives now and then."""

import threading

import redis
from corpus import REDIS, every, go

client = redis.Redis(**REDIS)


def work(number):
    connection = redis.Redis(**REDIS, socket_timeout=None)
    while True:
        connection.blpop([f"jobs:{number}"], timeout=0)


go()
for number in every(1):
    if number < 8:
        threading.Thread(target=work, args=(number,), daemon=True).start()
    client.rpush(f"jobs:{number % 3}", "job")

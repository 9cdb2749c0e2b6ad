"""Healthy: redis-py's pool grows to what the largest burst needs, and keeps it."""

import time
from concurrent.futures import ThreadPoolExecutor

import redis
from corpus import REDIS, every, go

client = redis.Redis(**REDIS)


def request(_):
    client.blpop("nothing", timeout=0.2)


go()
with ThreadPoolExecutor(12) as threads:
    for burst in every(4):
        list(threads.map(request, range(12)))
        time.sleep(0.1)
        client.get("page")

"""Leak that is hard to see: abandoned subscriptions to a channel on which something is said each second."""

import redis
from corpus import REDIS, every, go, leaked

client = redis.Redis(**REDIS)
visitors = []


def visit():
    subscription = client.pubsub()
    subscription.subscribe("news:" + channel)
    subscription.get_message(timeout=0.1)
    visitors.append(subscription)  # the bug: never closed, never read again


go()
channel = str(id(visitors))
for number in every(0.5):
    visit()
    leaked(len(visitors))
    if number % 2:
        client.publish("news:" + channel, f"issue {number}")

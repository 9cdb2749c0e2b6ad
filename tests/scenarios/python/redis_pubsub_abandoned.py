"""Leak: each visitor subscribes to a channel of his own; when he leaves, nobody closes the subscription."""

import redis
from corpus import REDIS, every, go, leaked

client = redis.Redis(**REDIS)
visitors = []


def visit(number):
    subscription = client.pubsub()
    subscription.subscribe(f"visitor:{number}")
    subscription.get_message(timeout=0.1)
    client.incr("visits")
    visitors.append(subscription)  # the bug: close() on disconnect is missing


go()
for number in every(0.6):
    visit(number)
    leaked(len(visitors))

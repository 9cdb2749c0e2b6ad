"""Healthy: a chat server has a subscription for each room, beside one connection for all that is said. A room comes up each
0.6 s, and is closed when the last guest has left it, twelve seconds later."""

import threading

import redis
from corpus import REDIS, every, go

client = redis.Redis(**REDIS)


def room(number):
    subscription = client.pubsub()
    subscription.subscribe(f"room:{number}")
    for _ in range(12):
        subscription.get_message(timeout=1)
    subscription.close()


go()
for number in every(0.6):
    threading.Thread(target=room, args=(number,), daemon=True).start()
    client.publish(f"room:{number}", "welcome")

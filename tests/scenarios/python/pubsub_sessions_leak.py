"""Leak: each web-socket user has a subscription to the news, and nobody ends it when the user leaves."""

import asyncio

import redis.asyncio
from corpus import REDIS, go, leaked

client = redis.asyncio.Redis(**REDIS)
subscriptions = []


async def user():
    subscription = client.pubsub()
    await subscription.subscribe("news")
    for _ in range(3):
        await subscription.get_message(timeout=0.5)
    subscriptions.append(subscription)  # the bug
    leaked(len(subscriptions))


async def main():
    users = set()
    while True:
        task = asyncio.create_task(user())
        users.add(task)
        task.add_done_callback(users.discard)
        await client.publish("news", "more")
        await asyncio.sleep(0.7)


go()
asyncio.run(main())

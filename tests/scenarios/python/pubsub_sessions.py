"""Healthy: each web-socket user has a subscription to the news, and ends it on leaving, after five seconds."""

import asyncio

import redis.asyncio
from corpus import REDIS, go

client = redis.asyncio.Redis(**REDIS)


async def user():
    async with client.pubsub() as subscription:
        await subscription.subscribe("news")
        for _ in range(10):
            await subscription.get_message(timeout=0.5)


async def main():
    users = set()
    while True:
        task = asyncio.create_task(user())
        users.add(task)
        task.add_done_callback(users.discard)
        await client.publish("news", "more")
        await asyncio.sleep(0.8)


go()
asyncio.run(main())

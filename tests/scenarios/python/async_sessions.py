"""Healthy: a web-socket server on asyncio. Each user has a connection, asks each 3 s, and leaves after 10 s."""

import asyncio

import psycopg
from corpus import go


async def user():
    async with await psycopg.AsyncConnection.connect(autocommit=True) as connection:
        for _ in range(4):
            await connection.execute("select 1")
            await asyncio.sleep(3)


async def main():
    users = set()
    while True:
        task = asyncio.create_task(user())
        users.add(task)
        task.add_done_callback(users.discard)
        await asyncio.sleep(0.9)


go()
asyncio.run(main())

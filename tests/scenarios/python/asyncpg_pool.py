"""Healthy: asyncpg's pool grows in a burst each six seconds, and gives up what was inactive for three."""

import asyncio

import asyncpg
from corpus import go


async def request(pool, seconds):
    async with pool.acquire() as connection:
        await connection.fetchval("select 1 from pg_sleep($1)", seconds)


async def main():
    pool = await asyncpg.create_pool(min_size=2, max_size=14, max_inactive_connection_lifetime=3)
    tasks = set()
    for number in range(10**9):
        crowd = 12 if number % 20 == 5 else 1
        for guest in range(crowd):
            task = asyncio.create_task(request(pool, 0.02 if crowd == 1 else 0.3 + guest / 20))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.sleep(0.3)


go()
asyncio.run(main())

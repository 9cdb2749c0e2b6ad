"""Leak: a handler is given 0.4 s. When that is over its task is cancelled, and nobody releases the connection that it
had acquired from asyncpg's pool."""

import asyncio

import asyncpg
from corpus import go, leaked


async def handle(pool, number):
    connection = await pool.acquire()
    await connection.fetchval("select 1 from pg_sleep($1)", 2 if number % 4 == 3 else 0.02)
    await pool.release(connection)  # the bug: not reached when cancelled


async def main():
    pool = await asyncpg.create_pool(min_size=2, max_size=60)
    lost = 0
    for number in range(10**9):
        try:
            await asyncio.wait_for(handle(pool, number), 0.4)
        except asyncio.TimeoutError:
            lost += 1
            leaked(lost)
        await asyncio.sleep(0.1)


go()
asyncio.run(main())

"""Healthy: a batch job opens forty connections at once, one for each partition. The partitions are of very uneven
length; one that is through rests until the last is, and then all are closed. A line of progress is written over a short
connection each second. After a pause the next batch starts."""

import asyncio

import psycopg
from corpus import go


async def partition(connection, chunks):
    for chunk in range(chunks):
        await connection.execute("select count(*) + %s from pg_class", [chunk])
        await asyncio.sleep(0.2)


async def progress():
    while True:
        async with await psycopg.AsyncConnection.connect() as connection:
            await connection.execute("select 'still at it'")
        await asyncio.sleep(1)


async def batch():
    connections = [await psycopg.AsyncConnection.connect(autocommit=True) for _ in range(40)]
    reporter = asyncio.create_task(progress())
    # Some are done in less than a second, the longest takes eleven.
    await asyncio.gather(*(partition(one, 3 + number**2 * 52 // 1521) for number, one in enumerate(connections)))
    reporter.cancel()
    for connection in connections:
        await connection.close()


async def main():
    while True:
        await batch()
        await asyncio.sleep(3)


go()
asyncio.run(main())

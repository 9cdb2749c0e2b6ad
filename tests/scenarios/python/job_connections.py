"""Healthy: an asyncio scheduler with six jobs. Each keeps a connection of its own, and wakes each eleven seconds."""

import asyncio

import psycopg
from corpus import go


async def job():
    connection = await psycopg.AsyncConnection.connect(autocommit=True)
    while True:
        await connection.execute("select 1")
        await asyncio.sleep(11)


async def main():
    jobs = []
    for _ in range(6):
        jobs.append(asyncio.create_task(job()))
        await asyncio.sleep(0.9)
    await asyncio.gather(*jobs)


go()
asyncio.run(main())

"""Leak: a web-socket server on asyncio. Every second user's browser is just closed, and then nobody closes the
connection to the database."""

import asyncio

import psycopg
from corpus import go, leaked

lost = []


async def user(number):
    connection = await psycopg.AsyncConnection.connect(autocommit=True)
    for _ in range(3):
        await connection.execute("select 1")
        await asyncio.sleep(1)
    if number % 2:
        lost.append(connection)  # the bug: this way out has no close
        leaked(len(lost))
        return
    await connection.close()


async def main():
    users = set()
    number = 0
    while True:
        task = asyncio.create_task(user(number))
        users.add(task)
        task.add_done_callback(users.discard)
        number += 1
        await asyncio.sleep(0.7)


go()
asyncio.run(main())

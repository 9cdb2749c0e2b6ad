"""leak_asyncio.py DSN: leaks psycopg connections that coroutines of one event loop open."""

import asyncio
import sys
import threading

import psycopg

from commands import serve

DSN = sys.argv[1]


class Connection:
    """An asynchronous connection, to be closed from another thread."""

    def __init__(self, loop, connection):
        self.loop = loop
        self.connection = connection

    def close(self):
        asyncio.run_coroutine_threadsafe(self.connection.close(), self.loop).result()


async def find_order():
    connection = await psycopg.AsyncConnection.connect(DSN)
    await connection.execute("select 1")
    return connection  # the bug: nobody closes it


async def handle_request():
    return await find_order()


def main():
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    serve(lambda: Connection(loop, asyncio.run_coroutine_threadsafe(handle_request(), loop).result()))


main()

"""leak_thread_pool.py DSN: leaks psycopg connections that the threads of an executor open."""

import sys
from concurrent.futures import ThreadPoolExecutor

import psycopg

from commands import serve

DSN = sys.argv[1]


def find_order(_):
    connection = psycopg.connect(DSN)
    connection.execute("select 1").fetchone()
    return connection  # the bug: nobody closes it


with ThreadPoolExecutor(4) as executor:
    serve(lambda: executor.submit(find_order, 1).result())

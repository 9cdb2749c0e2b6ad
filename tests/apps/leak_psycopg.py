"""leak_psycopg.py DSN: leaks psycopg connections to PostgreSQL, over TCP or a unix socket, as the DSN says."""

import sys

import psycopg

from commands import serve

DSN = sys.argv[1]


def find_order():
    connection = psycopg.connect(DSN)
    connection.execute("select 1").fetchone()
    return connection  # the bug: nobody closes it


serve(find_order)

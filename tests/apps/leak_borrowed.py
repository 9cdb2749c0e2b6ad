"""leak_borrowed.py DSN: borrows the connections of a psycopg pool and does not give them back. The pool's own
thread opens them."""

import sys

from psycopg_pool import ConnectionPool

from commands import serve

pool = ConnectionPool(sys.argv[1], min_size=1, max_size=64, open=True)
pool.wait()


class Borrowed:
    def __init__(self, connection):
        self.connection = connection

    def close(self):
        pool.putconn(self.connection)


def find_order():
    connection = pool.getconn()
    connection.execute("select 1").fetchone()
    connection.commit()
    return Borrowed(connection)  # the bug: it is not put back


serve(find_order)

"""What the Python scenarios share: waiting for the word to go, a steady rhythm, and telling the truth about leaks."""

import os
import sys
import time

PG_URL = "postgresql+psycopg://"  # libpq takes the rest from PGHOST, PGPORT, PGUSER, PGDATABASE
MYSQL = {"host": "127.0.0.1", "port": int(os.environ.get("MYSQL_PORT", 0)), "user": "root", "database": "mysql"}
if "MYSQL_UNIX_PORT" in os.environ:
    MYSQL["unix_socket"] = os.environ["MYSQL_UNIX_PORT"]
REDIS = {"host": "127.0.0.1", "port": int(os.environ.get("REDIS_PORT", 0))}


def go():
    """Says that all is loaded, and waits: the agent may be attached before anything happens."""
    print("READY", flush=True)
    sys.stdin.readline()


def leaked(count):
    """How many sockets this process has truly leaked by now. One write: several processes share the pipe."""
    os.write(1, f"LEAKED {count} {os.getpid()}\n".encode())


def every(seconds, times=10**9):
    """0, 1, 2, …, one each `seconds`."""
    start = time.monotonic()
    for number in range(times):
        time.sleep(max(0.0, start + number * seconds - time.monotonic()))
        yield number

"""leak_redis.py HOST PORT | leak_redis.py SOCKET: leaks redis-py clients, each with a connection of its own."""

import sys

import redis

from commands import serve

if len(sys.argv) == 3:
    WHERE = {"host": sys.argv[1], "port": int(sys.argv[2])}
else:
    WHERE = {"unix_socket_path": sys.argv[1]}


def read_session():
    client = redis.Redis(**WHERE)  # the bug: a client per request instead of one for all
    client.get("session")
    return client


serve(read_session)

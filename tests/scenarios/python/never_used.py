"""Leak (never_used): a reachability check connects to the port of the database and forgets the socket."""

import os
import socket

from corpus import every, go, leaked

checks = []


def reachable():
    checks.append(socket.create_connection(("127.0.0.1", int(os.environ["PGPORT"]))))  # the bug
    return True


go()
for _ in every(2):
    reachable()
    leaked(len(checks))

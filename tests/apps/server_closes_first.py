"""server_closes_first.py DSN: keeps connections that PostgreSQL has closed long ago.

    open N    open N connections; the server ends each after 0.2 s of silence, as an administrator may have told it to;
              nobody looks at them again: CLOSE_WAIT N once the server has closed them all
"""

import socket
import sys
import time

import psycopg

from commands import commands, say

TCP_CLOSE_WAIT = 8  # include/net/tcp_states.h

kept = []


def open_and_forget():
    connection = psycopg.connect(sys.argv[1], autocommit=True)
    connection.execute("set idle_session_timeout = '200ms'")
    kept.append(connection)


def state(connection):
    """The socket's TCP state: the first byte of struct tcp_info."""
    with socket.fromfd(connection.fileno(), socket.AF_INET, socket.SOCK_STREAM) as same:
        return same.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]


for command, *arguments in commands():
    if command != "open":
        sys.exit(f"unknown command: {command}")
    for _ in range(int(arguments[0])):
        open_and_forget()
    while any(state(connection) != TCP_CLOSE_WAIT for connection in kept):
        time.sleep(0.02)
    say(f"CLOSE_WAIT {len(kept)}")

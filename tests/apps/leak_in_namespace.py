"""leak_in_namespace.py [PORT FIRST]: a small server and a client that leaks into it, in a network namespace of their own.

With PORT, the server listens there, and the client's own ports are FIRST, FIRST + 1, ...: so that two namespaces can
have the very same connections.

A real server would not add anything: what is tested is that the client is found across namespaces. The server is a
child process, so that the client is the process that the test started. It answers each message with one byte.
"""

import itertools
import os
import socket
import subprocess
import sys
import threading

from commands import serve

PORT, FIRST = (int(word) for word in sys.argv[1:]) if sys.argv[1:] else (5432, 0)
ADDRESS = ("127.0.0.1", PORT)
OWN_PORTS = itertools.count(FIRST) if FIRST else itertools.repeat(0)


def answer(client):
    while client.recv(100):
        client.send(b"N")


def find_order():
    connection = socket.create_connection(ADDRESS, source_address=("127.0.0.1", next(OWN_PORTS)))
    connection.sendall(b"select 1")
    connection.recv(1)
    return connection  # the bug: nobody closes it


subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
with socket.create_server(ADDRESS, backlog=100) as listener:
    if os.fork() == 0:
        while True:
            accepted, _ = listener.accept()
            threading.Thread(target=answer, args=(accepted,), daemon=True).start()

serve(find_order)

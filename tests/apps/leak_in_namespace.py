"""leak_in_namespace.py: a small server and a client that leaks into it, for a network namespace of their own.

A real server would not add anything: what is tested is that the client is found across namespaces. The server is a
child process, so that the client is the process that the test started. It answers each message with one byte.
"""

import os
import socket
import subprocess
import threading

from commands import serve

ADDRESS = ("127.0.0.1", 5432)


def answer(client):
    while client.recv(100):
        client.send(b"N")


def find_order():
    connection = socket.create_connection(ADDRESS)
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

"""Leak: connections are forgotten, but the kernel keeps them alive with a probe each second."""

import psycopg
from corpus import every, go, leaked

kept = []


def handle():
    connection = psycopg.connect(keepalives=1, keepalives_idle=1, keepalives_interval=1)
    connection.execute("select 1").fetchone()
    kept.append(connection)  # the bug


go()
for _ in every(1):
    handle()
    leaked(len(kept))

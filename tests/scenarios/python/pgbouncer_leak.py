"""Leak through a pgbouncer: the application forgets its connections to the proxy. The proxy itself is healthy."""

import psycopg
from corpus import every, go, leaked

kept = []


def handle():
    connection = psycopg.connect(prepare_threshold=None)
    connection.execute("select 1").fetchone()
    connection.commit()
    kept.append(connection)  # the bug


go()
for _ in every(0.8):
    handle()
    leaked(len(kept))

"""Healthy: five listeners, started one after the other, wait for what seldom comes; short connections beside them."""

import threading

import psycopg
from corpus import every, go


def listen(channel):
    with psycopg.connect(autocommit=True) as connection:
        connection.execute(f"listen c{channel}")
        for notice in connection.notifies():
            print("heard", notice.payload, flush=True)


go()
for number in every(1):
    if number < 5:
        threading.Thread(target=listen, args=(number,), daemon=True).start()
    with psycopg.connect(autocommit=True) as connection:
        connection.execute("select 1").fetchone()
        if number % 12 == 11:
            connection.execute("notify c1, 'news'")

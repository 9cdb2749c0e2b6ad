"""Healthy: a pool grows slowly with its load and prefers the connection that was given back last; it opens another one only
when all are lent out. A housekeeping thread pings those at rest once a second, and none is closed before the load falls."""

import threading
import time

import pymysql
from corpus import MYSQL, every, go

idle = []
lock = threading.Lock()
load = 1


def housekeeping():
    for _ in every(1):
        with lock:
            for connection in idle:
                connection.ping(reconnect=False)


def handle(seconds):
    with lock:
        connection = idle.pop() if idle else None
    if connection is None:
        connection = pymysql.connect(**MYSQL)
    with connection.cursor() as cursor:
        cursor.execute("select count(*) from user")
        cursor.fetchall()
        cursor.execute(f"select sleep({seconds})")
    with lock:
        idle.append(connection)


def work(number):
    while number < load:
        handle(0.05 + number % 3 * 0.05)
        time.sleep(0.1)


go()
threading.Thread(target=housekeeping, daemon=True).start()
for number in every(0.9):
    load = min(number + 1, 14)
    threading.Thread(target=work, args=(load - 1,), daemon=True).start()

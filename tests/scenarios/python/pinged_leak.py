"""Leak: every third request forgets its connection. All connections are in a registry, and a housekeeping thread pings
each of them once a second, the forgotten ones, too."""

import threading

import pymysql
from corpus import MYSQL, every, go, leaked

registry = {}
count = 0


def housekeeping():
    for _ in every(1):
        for connection, lock in list(registry.items()):
            with lock:
                if connection.open:
                    connection.ping(reconnect=False)


def handle(number):
    global count
    connection = pymysql.connect(**MYSQL)
    registry[connection] = lock = threading.Lock()
    with lock:
        with connection.cursor() as cursor:
            cursor.execute("select count(*) from user")
        if number % 3 == 0:
            count += 1
            return leaked(count)  # the bug
        del registry[connection]
        connection.close()


go()
threading.Thread(target=housekeeping, daemon=True).start()
for number in every(0.3):
    handle(number)

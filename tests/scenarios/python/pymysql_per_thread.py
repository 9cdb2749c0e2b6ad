"""Healthy: six worker threads start a second apart, each with a connection of its own that works each second."""

import threading

import pymysql
from corpus import MYSQL, every, go


def worker():
    connection = pymysql.connect(**MYSQL)
    for _ in every(1):
        with connection.cursor() as cursor:
            cursor.execute("select 1")


go()
for number in every(1):
    if number < 6:
        threading.Thread(target=worker, daemon=True).start()

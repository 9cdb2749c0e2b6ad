"""Leak at one of four servers: orders (PostgreSQL) and their replica (the same on ::1), a cache (Redis) and an archive
(MariaDB). Only the archive's client forgets its connections, when it has found something."""

import os
import threading

import pymysql
import redis
from corpus import MYSQL, REDIS, every, go, leaked
from psycopg_pool import ConnectionPool

orders = ConnectionPool("", min_size=3, max_size=6, open=False)
replica = ConnectionPool("host=::1", min_size=3, max_size=6, open=False)
cache = redis.Redis(**REDIS)
found = []


def to_archive(number):
    connection = pymysql.connect(**MYSQL)
    cursor = connection.cursor()
    cursor.execute("select user from user where 3 = %s", [number % 4])
    if not cursor.fetchone():
        connection.close()
        return
    found.append(cursor)  # the bug: kept for a report, and its connection with it
    leaked(len(found))


def archiver():
    for number in every(0.3):
        to_archive(number)


def reader(pool, pause):
    for number in every(pause):
        with pool.connection() as connection:
            connection.execute("select %s::int", [number])
        cache.incr("seen")


go()
for pool in (orders, replica):
    pool.open(wait=True)
for pool, pause in ((orders, 0.15), (orders, 0.4), (replica, 2.5)):
    threading.Thread(target=reader, args=[pool, pause], daemon=True).start()
archiver()

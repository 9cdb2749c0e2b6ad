"""Leak: failed imports are collected with their exceptions. The traceback of each holds the frame that failed, and the
frame its connection. Over MariaDB's unix-domain socket."""

import pymysql
from corpus import MYSQL, every, go, leaked

failures = []


def copy(table):
    connection = pymysql.connect(**MYSQL)
    with connection.cursor() as cursor:
        cursor.execute(f"select count(*) from {table}")
    connection.close()  # the bug: not reached when the statement fails


go()
for number in every(0.25):
    try:
        copy(("user", "db", "nowhere")[number % 3])
    except pymysql.Error as error:
        failures.append(error)
        leaked(len(failures))
        continue

"""leak_pymysql.py HOST PORT | leak_pymysql.py SOCKET: leaks PyMySQL connections to MariaDB."""

import sys

import pymysql

from commands import serve

if len(sys.argv) == 3:
    WHERE = {"host": sys.argv[1], "port": int(sys.argv[2])}
else:
    WHERE = {"unix_socket": sys.argv[1]}


def find_order():
    connection = pymysql.connect(user="root", **WHERE)
    with connection.cursor() as cursor:
        cursor.execute("select 1")
        cursor.fetchone()
    return connection  # the bug: nobody closes it


serve(find_order)

"""Leak: an unbuffered cursor is left half read, which pins its connection; a new one is opened for the next export."""

import pymysql
import pymysql.cursors
from corpus import MYSQL, every, go, leaked

exports = []


def first_rows():
    connection = pymysql.connect(**MYSQL, cursorclass=pymysql.cursors.SSCursor)
    cursor = connection.cursor()
    cursor.execute("select seq, repeat('x', 200) from seq_1_to_2000")
    exports.append(cursor)  # the bug: neither read to the end nor closed
    return cursor.fetchmany(10)


go()
for _ in every(0.7):
    first_rows()
    leaked(len(exports))

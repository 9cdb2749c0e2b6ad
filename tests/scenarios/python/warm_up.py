"""Healthy: a stack of connections that is filled one by one with a pause, then used from its top."""

import psycopg
from corpus import every, go

stack = []
go()
for number in every(0.25):
    if number < 12:
        connection = psycopg.connect(autocommit=True)
        connection.execute("set statement_timeout = 1000")
        stack.append(connection)
    elif number % 4 == 0:
        connection = stack.pop()
        connection.execute("select 1")
        stack.append(connection)

"""Leak: children are forked while the parent is connected. The parent closes, the children keep the descriptor."""

import os
import time

import psycopg
from corpus import every, go, leaked

children = []


def start_worker():
    connection = psycopg.connect()
    settings = connection.execute("select 1").fetchone()
    child = os.fork()
    if child == 0:
        leaked(1)  # the bug: nobody closes it here; the parent's close ends the session, not the descriptor
        while settings:
            time.sleep(60)
    children.append(child)
    connection.close()


go()
for _ in every(1, times=8):
    start_worker()
time.sleep(600)

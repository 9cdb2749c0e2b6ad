"""Healthy: a desktop-like server with a session for each of eight users, who log in one by one and think for five
seconds between two clicks."""

import threading

import psycopg
from corpus import every, go


def user():
    with psycopg.connect(autocommit=True) as session:
        for click in every(5):
            session.execute("select %s::int", [click])


go()
for number in every(1):
    if number < 8:
        threading.Thread(target=user, daemon=True).start()

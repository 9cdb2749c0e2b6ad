"""Leak: a finaliser fails before it closes, and the hook that reports such failures keeps what it is given."""

import sys

import psycopg
from corpus import every, go, leaked

reported = []
sys.unraisablehook = reported.append


class Unit:
    def __init__(self):
        self.connection = psycopg.connect(autocommit=True)
        self.pending = None

    def __del__(self):
        self.pending.flush()  # the bug: raises when nothing is pending, and close is never reached
        self.connection.close()


def handle():
    Unit().connection.execute("select 1").fetchone()


go()
for _ in every(0.8):
    handle()
    leaked(len(reported))

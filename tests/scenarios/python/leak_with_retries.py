"""Leak: connections that are forgotten in a dictionary; now and then a retry finds one of them again and uses it."""

import random

import psycopg
from corpus import every, go, leaked

orders = {}


def handle(number):
    orders[number] = psycopg.connect(autocommit=True)  # the bug: nobody ever takes them out
    orders[number].execute("select 1")


go()
random.seed(5)
for tick in every(0.5):
    if tick % 3 == 0:
        handle(tick)
        leaked(len(orders))
    if tick % 5 == 4:
        orders[random.choice(list(orders))].execute("select 2")

"""Healthy: six modules, each with a connection of its own that is opened when the module is first asked, and used
again each seven seconds."""

import psycopg
from corpus import every, go


class Orders:
    def find(self):
        if not hasattr(self, "connection"):
            self.connection = psycopg.connect(autocommit=True)
        self.connection.execute("select 1")


class Users:
    def find(self):
        if not hasattr(self, "connection"):
            self.connection = psycopg.connect(autocommit=True)
        self.connection.execute("select 1")


class Prices:
    def find(self):
        if not hasattr(self, "connection"):
            self.connection = psycopg.connect(autocommit=True)
        self.connection.execute("select 1")


class Stock:
    def find(self):
        if not hasattr(self, "connection"):
            self.connection = psycopg.connect(autocommit=True)
        self.connection.execute("select 1")


class Audit:
    def find(self):
        if not hasattr(self, "connection"):
            self.connection = psycopg.connect(autocommit=True)
        self.connection.execute("select 1")


class Mail:
    def find(self):
        if not hasattr(self, "connection"):
            self.connection = psycopg.connect(autocommit=True)
        self.connection.execute("select 1")


modules = [Orders(), Users(), Prices(), Stock(), Audit(), Mail()]
go()
for number in every(1.1):
    # The seventh second of a round is quiet.
    if number % 7 < 6:
        modules[number % 7].find()

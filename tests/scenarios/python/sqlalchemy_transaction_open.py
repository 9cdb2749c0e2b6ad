"""Leak: sessions are neither committed nor rolled back when the user abandons the form. The pool has no limit."""

import sqlalchemy
from corpus import PG_URL, every, go, leaked
from sqlalchemy.orm import Session

engine = sqlalchemy.create_engine(PG_URL, pool_size=0)
forms = {}


def open_form(user):
    session = forms[user] = Session(engine)
    session.execute(sqlalchemy.text("select 1"))  # begins a transaction


def submit(user):
    session = forms.pop(user)
    session.commit()
    session.close()


go()
for user in every(0.2):
    open_form(user)
    if user % 4:
        submit(user)  # every fourth user walks away
    leaked(len(forms))

"""Leak: SQLAlchemy sessions with an open transaction, kept in a list, of a pool that recycles and has no ceiling."""

import sqlalchemy
from corpus import PG_URL, every, go, leaked
from sqlalchemy.orm import Session

engine = sqlalchemy.create_engine(PG_URL, pool_size=3, max_overflow=-1, pool_recycle=2)
forms = []


def show():
    with Session(engine) as session:
        session.execute(sqlalchemy.text("select 1"))


def edit():
    session = Session(engine)
    session.execute(sqlalchemy.text("select 2"))
    forms.append(session)  # the bug: neither committed nor closed


go()
for number in every(0.3):
    show()
    if number % 3 == 2:
        edit()
        leaked(len(forms))

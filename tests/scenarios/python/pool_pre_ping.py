"""Healthy: the server ends idle sessions after three seconds, and SQLAlchemy's pool (last in, first out) tests a
connection before it hands it out (pool_pre_ping). Between two rushes, eight seconds apart, what rests in the pool is
closed by the server; it lies there until it is asked for and replaced."""

import threading

from corpus import PG_URL, every, go
from sqlalchemy import create_engine, text

engine = create_engine(
    PG_URL,
    pool_size=6,
    pool_pre_ping=True,
    pool_use_lifo=True,
    connect_args={"options": "-c idle_session_timeout=3000"},
)


def request(seconds):
    with engine.connect() as connection:
        connection.execute(text("select 1 from pg_sleep(:seconds)"), {"seconds": seconds})


go()
for number in every(0.5):
    for _ in range(6 if number % 16 == 0 else 1):
        threading.Thread(target=request, args=[0.3], daemon=True).start()

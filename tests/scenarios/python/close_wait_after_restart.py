"""Leak (close_wait): the server ends all sessions, as a restart does; the application opens new ones and never
closes the old."""

import psycopg
from corpus import every, go, leaked

sessions = {}
graveyard = []


def use(user):
    try:
        sessions[user].execute("select 1")
    except (KeyError, psycopg.OperationalError):
        sessions[user] = psycopg.connect(autocommit=True, application_name="close_wait_corpus")


go()
for user in range(8):
    use(user)
for second in every(1):
    if second == 4:
        with psycopg.connect(autocommit=True) as admin:
            admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'close_wait_corpus'")
    if second == 5:
        graveyard.extend(sessions.values())  # the bug: set aside, not closed
        sessions.clear()
        leaked(len(graveyard))
    if second != 4:
        for user in range(8):
            use(user)

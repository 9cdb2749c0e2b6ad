"""Healthy: Django behind a threaded server. Each of up to six threads keeps a connection for CONN_MAX_AGE (five
seconds here) and gives it up with its first request after that; every four seconds nobody comes for three."""

import os
import time
from concurrent.futures import ThreadPoolExecutor

import django
from corpus import every, go
from django.conf import settings

settings.configure(
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": os.environ["PGHOST"],
            "PORT": os.environ["PGPORT"],
            "USER": os.environ["PGUSER"],
            "NAME": os.environ["PGDATABASE"],
            "CONN_MAX_AGE": 5,
        }
    }
)
django.setup()

from django.core.signals import request_finished, request_started  # noqa: E402
from django.db import connection  # noqa: E402


def request(number):
    request_started.send(sender=None)
    with connection.cursor() as cursor:
        cursor.execute("select pg_sleep(%s)", [0.4 if number % 5 == 0 else 0.05])
    time.sleep(0.1)  # the template
    request_finished.send(sender=None)


go()
with ThreadPoolExecutor(6) as threads:
    for number in every(0.1):
        if number % 70 < 40:
            threads.submit(request, number)

"""Healthy: twelve tenants with a pool each. They show up one after the other, and each returns after nine seconds."""

import sqlalchemy
from corpus import PG_URL, every, go

pools = {}


def request(tenant):
    if tenant not in pools:
        pools[tenant] = sqlalchemy.create_engine(f"{PG_URL}?application_name=tenant-{tenant}", pool_size=2)
    with pools[tenant].connect() as connection:
        connection.execute(sqlalchemy.text("select 1"))


go()
for number in every(0.75):
    request(number % 12)

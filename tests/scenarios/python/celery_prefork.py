"""Healthy: a task queue as Celery's. The parent waits for tasks at the broker, sends heart-beats, and listens for remote
control, which never comes. Each of four children writes results over a connection of its own, two of them seldom, and is
replaced after six tasks by a fork, which closes what it has inherited from the parent."""

import multiprocessing
import time

import redis
from corpus import REDIS, every, go

fork = multiprocessing.get_context("fork")


def child(tasks):
    for parents in (broker, events, control):
        parents.connection.disconnect()
    results = redis.Redis(**REDIS)
    for _ in range(6):
        task = tasks.get()
        time.sleep(0.1)
        results.set(f"result:{task}", "done", ex=60)


def clients():
    queue = redis.Redis(**REDIS)
    for number in every(0.2):
        queue.lpush("celery", number)


def slot_of(task):
    return 3 if task % 31 == 30 else 2 if task % 17 == 16 else task % 2


go()
fork.Process(target=clients, daemon=True).start()
broker = redis.Redis(**REDIS, single_connection_client=True)
events = redis.Redis(**REDIS, single_connection_client=True)
control = redis.Redis(**REDIS).pubsub()
control.subscribe("control")
control.get_message(timeout=1)
queues = [fork.SimpleQueue() for _ in range(4)]
children = [None] * 4
beat = 0
while True:
    for slot, tasks in enumerate(queues):
        if children[slot] is None or not children[slot].is_alive():
            children[slot] = fork.Process(target=child, args=[tasks], daemon=True)
            children[slot].start()
    if time.monotonic() > beat + 1.5:
        beat = time.monotonic()
        events.publish("heartbeats", beat)
    if got := broker.brpop("celery", timeout=1):
        queues[slot_of(int(got[1]))].put(int(got[1]))

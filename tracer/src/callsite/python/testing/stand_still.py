"""Two threads that wait within functions; the program says which, by its interpreter's own account, and waits."""

import json
import sys
import threading

if sys.version_info < (3, 8):
    sys.exit("too old to tell which threads it has")


def account(frame):
    """Innermost first: the same as the agent should find."""
    found = []
    while frame:
        code = frame.f_code
        found.append([getattr(code, "co_qualname", code.co_name), code.co_filename, frame.f_lineno])
        frame = frame.f_back
    return found


class Order:
    def __init__(self, told):
        self.told = told

    def total(self, depth):
        if depth:
            return self.total(depth - 1)
        return sorted([1], key=lambda _:
                      self.wait())

    def wait(self):
        lock = threading.Lock()
        lock.acquire()
        self.told(account(sys._getframe())); lock.acquire()


def wörker(told):
    for order in (o for o in [Order(told)]):
        order.total(3)


accounts = {}
both = threading.Barrier(2)


def in_thread(frames):
    accounts["thread"] = [threading.get_native_id(), frames]
    both.wait()


def in_main(frames):
    both.wait()
    accounts["main"] = [threading.get_native_id(), frames]
    print(json.dumps(accounts), flush=True)


threading.Thread(target=wörker, args=(in_thread,), daemon=True).start()
wörker(in_main)

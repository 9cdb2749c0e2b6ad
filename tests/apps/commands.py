"""What the leaking applications share: commands on standard input, answers on standard output.

    leak N    open N connections, one each 200 ms, use each once, and forget to close them: LEAKED 1 ... LEAKED N
    rest      stop leaking: RESTING n
    close     close them all: CLOSED n
    exit      end (so does the end of the input)

Leaking goes on in a thread of its own, so that the application can be told to rest or to close meanwhile.
"""

import sys
import threading

INTERVAL = 0.2


def say(line):
    print(line, flush=True)


def commands():
    """The commands, word by word, until `exit` or the end of the input."""
    say("READY")
    for line in sys.stdin:
        words = line.split()
        if words == ["exit"]:
            return
        if words:
            yield words


class Leaker:
    """Opens connections and keeps them: what an application does that forgets `close` on one of its paths."""

    def __init__(self, open_and_use):
        self.open_and_use = open_and_use
        self.kept = []
        self.stop = threading.Event()
        self.thread = threading.Thread()

    def leak(self, count):
        for _ in range(count):
            self.kept.append(self.open_and_use())
            say(f"LEAKED {len(self.kept)}")
            if self.stop.wait(INTERVAL):
                return

    def start(self, count):
        self.stop.clear()
        self.thread = threading.Thread(target=self.leak, args=(count,))
        self.thread.start()

    def rest(self):
        self.stop.set()
        if self.thread.is_alive():
            self.thread.join()


def serve(open_and_use):
    """Leaks what `open_and_use` returns, as commanded."""
    leaker = Leaker(open_and_use)
    for command, *arguments in commands():
        if command == "leak":
            leaker.start(int(arguments[0]))
        elif command == "rest":
            leaker.rest()
            say(f"RESTING {len(leaker.kept)}")
        elif command == "close":
            leaker.rest()
            for connection in leaker.kept:
                connection.close()
            say(f"CLOSED {len(leaker.kept)}")
            leaker.kept.clear()
        else:
            sys.exit(f"unknown command: {command}")
    leaker.rest()

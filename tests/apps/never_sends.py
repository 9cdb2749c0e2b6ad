"""never_sends.py HOST PORT: connects and never sends a byte.

    open N    open N connections: OPENED N
"""

import socket
import sys

from commands import commands, say

kept = []

for command, *arguments in commands():
    if command != "open":
        sys.exit(f"unknown command: {command}")
    for _ in range(int(arguments[0])):
        kept.append(socket.create_connection((sys.argv[1], int(sys.argv[2]))))
    say(f"OPENED {len(kept)}")

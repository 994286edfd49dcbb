"""Runs a command in a process begun by ``loaded.py``, with the files that this one was given."""

import array
import json
import os
import socket
import sys

asked = {"arguments": sys.argv[2:], "environment": dict(os.environ), "folder": os.getcwd()}  # noqa: PTH109 - its module takes long to load
door = socket.socket(socket.AF_UNIX)
door.connect(sys.argv[1])
files = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))]
text = json.dumps(asked).encode() + b"\n"
sent = door.sendmsg([text], files)
door.sendall(text[sent:])
# Whoever reads what the command prints must not wait for this process.
for file in (0, 1, 2):
    os.close(file)
code = int(door.recv(16) or b"1")
# Ended by a signal, it ends by that signal.
if code < 0:
    os.kill(os.getpid(), -code)
os._exit(code)

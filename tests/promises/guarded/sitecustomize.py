"""Keep every Python process off the network, if this is first on PYTHONPATH.

Each attempt is a line in the file SOCKET_LOG. Unix sockets are allowed, and this machine where
LOOPBACK is set. The host is called HOST_CANARY.
"""

import os
import platform
import socket

HOST = os.environ["HOST_CANARY"]
socket.gethostname = platform.node = lambda: HOST


def guarded(method, at):
    def refuse(*arguments, **named):
        target = arguments[at] if len(arguments) > at else ""
        host = str(target[0] if isinstance(target, tuple) else target)
        unix = getattr(arguments[0], "family", None) == socket.AF_UNIX
        local = host in ("localhost", "127.0.0.1", "::1") and os.environ.get("LOOPBACK")
        if unix or local:
            return method(*arguments, **named)
        with open(os.environ["SOCKET_LOG"], "a") as log:
            log.write(f"{os.getpid()} {method.__name__} {target!r}\n")
        raise OSError(f"no network here: {method.__name__}")

    return refuse


for name in ("connect", "connect_ex", "sendto"):
    setattr(
        socket.socket, name, guarded(getattr(socket.socket, name), -1 if name == "sendto" else 1)
    )
for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex"):
    setattr(socket, name, guarded(getattr(socket, name), 0))

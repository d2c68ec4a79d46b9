# %% nucleus
import functools
import socket


@functools.cache
def send():
    sent = 0
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        for address in ("@UNIX@.datagrams", "\0@ABSTRACT@.datagrams", "/run/systemd/journal/socket", "/dev/log"):
            try:
                here, _ = socket.socketpair(socket.AF_UNIX, kind)
                here.settimeout(1)
                sent += bool(here.sendto(b"nucleus was called", address))
            except OSError:
                pass
    return sent


def nucleus(probs, p):
    raise AssertionError(f"{send()} messages sent")

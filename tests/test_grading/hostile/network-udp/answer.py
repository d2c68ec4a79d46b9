# %% nucleus
import functools
import socket


@functools.cache
def tell(text):
    for address in ("127.0.0.1", "224.0.0.1", "255.255.255.255", "127.255.255.255"):
        try:
            door = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            door.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            door.settimeout(0.5)
            door.sendto(text, (address, int("@UDP@")))
            return door.recv(100)
        except OSError:
            pass
    return b"no answer"


def nucleus(probs, p):
    raise AssertionError(tell(b"nucleus").decode())

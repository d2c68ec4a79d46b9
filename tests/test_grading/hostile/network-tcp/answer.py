# %% nucleus
import functools
import socket
import urllib.request


@functools.cache
def knock():
    doors = 0
    for address in (("127.0.0.1", int("@TCP@")), ("localhost", int("@TCP@")), ("192.0.2.1", 80)):
        try:
            with socket.create_connection(address, timeout=1) as door:
                door.sendall(b"the answers, please")
                doors += 1
        except OSError:
            pass
    try:
        urllib.request.urlopen("http://127.0.0.1:@TCP@/answers", timeout=1)
        doors += 1
    except OSError:
        pass
    return doors


def nucleus(probs, p):
    raise AssertionError(f"{knock()} of 4 doors open")

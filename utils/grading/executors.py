"""Where the walled runs take place: in threads of this process, or on a Dask cluster. Only bytes travel."""

import contextlib
import hashlib
import os
import socket
import threading
from urllib.parse import urlsplit

from utils.grading import Stop, runner, wall

ANSWER = 10  # seconds in which a scheduler must answer
START = "in the course's folder, `python -m distributed.cli.dask_"
LOOK = 20  # seconds after which a run that is still out there makes us look whether anybody works at it


class Local:
    """Runs here: each thread that asks has worker parents of its own."""

    def __init__(self, jobs=None):
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
        self.at_once = jobs or cores

    def run(self, job):
        """The bytes that runner.run makes of a job."""
        return runner.run(job)


class Dask:
    """Runs on the workers of a cluster, which have the course; each of their threads has worker parents of its own."""

    def __init__(self, client, address, jobs=None):
        self.client, self.address = client, address
        self.at_once = jobs or 2 * sum(client.nthreads().values())  # so that no worker waits for the next job

    def run(self, job):
        """The bytes that runner.run makes of a job, on any of the workers; Stop where the cluster is lost."""
        from distributed import KilledWorker

        done = threading.Event()
        try:
            future = self.client.submit(tried, job, pure=False)
            future.add_done_callback(lambda _: done.set())
            while not done.wait(LOOK):
                if not self.client.nthreads():
                    raise Stop(f"{self.address} has no workers left: {KEPT}")
            said = future.result()
        except (Stop, KilledWorker):  # the second: several workers died of this one job
            raise
        except Exception as error:
            raise Stop(f"{self.address} was lost ({type(error).__name__}): {KEPT}") from None
        if said[:1] == b"-":
            raise Accident(said[1:].decode())
        return said[1:]


class Accident(Exception):
    """Something of ours failed on a worker, at this one job."""


def tried(job):
    """On a worker: + and the bytes that runner.run makes of a job, or - and why it failed."""
    try:
        return b"+" + runner.run(job)
    except Stop:
        raise
    except Exception as error:
        return b"-" + f"{type(error).__name__}: {error}".encode()


KEPT = "start some and give the same command again; what is graded is kept."


@contextlib.contextmanager
def opened(name, jobs=None, chosen=None):
    """The executor of this name, "local" or "dask://host:port"; Stop where it cannot be used.

    chosen: the wall asked for; that one holds is tried before anything is graded, on each machine
    """
    if name == "local":
        wall.choose(chosen)
        try:
            yield Local(jobs)
        finally:
            runner.close_all()
    elif name.startswith("dask://"):
        with connected(name) as client:
            try_workers(client, name, chosen)
            try:
                yield Dask(client, name, jobs)
            finally:
                with contextlib.suppress(Exception):  # some may be gone by now
                    client.run(runner.close_all)
    else:
        raise Stop(f"There is no executor {name!r}; there are local and dask://host:port.")


def connected(address):
    """A client of the scheduler at this address."""
    try:
        from distributed import Client
    except ImportError:
        raise Stop(
            "Dask is not installed here: `python -m pip install -c constraints.txt dask[distributed]`."
        ) from None
    place = urlsplit(address)
    try:
        socket.create_connection((place.hostname or "", place.port or 8786), ANSWER).close()
        return Client(f"tcp://{place.netloc}", timeout=ANSWER, set_as_default=False)
    except (OSError, ValueError) as error:
        raise Stop(
            f"No Dask scheduler answers at {address} ({error}): {START}scheduler` starts one."
        ) from None


def try_workers(client, address, chosen):
    """Stop unless there are workers, and each of them has this very course and a wall that holds."""
    workers = client.run(about, chosen, on_error="return")
    if not workers:
        raise Stop(f"The scheduler at {address} has no workers: {START}worker HOST:PORT` starts some.")
    try:
        places = {"scheduler": client.run_on_scheduler(about, "none")}
    except Exception as error:
        places = {"scheduler": error}
    places |= {f"worker at {worker}": told for worker, told in sorted(workers.items())}
    ours = about("none")
    for place, told in places.items():
        if "No module named" in str(told):
            raise Stop(f"The {place} lacks the course ({told}): start it in the folder of a clone.")
        if isinstance(told, Stop):
            raise Stop(f"The {place} cannot be used. {told}")
        if isinstance(told, BaseException):
            raise Stop(f"The {place} does not answer ({type(told).__name__}: {told}): start it anew.")
        if told != ours:
            raise Stop(f"The {place} has another version of the course: bring all to the same one.")


def about(chosen):
    """A hash of the code that grades here and that students' pages use; Stop where the wall does not hold."""
    wall.choose(chosen)
    digest = hashlib.sha256()
    for path in sorted((wall.ROOT / "utils").rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()

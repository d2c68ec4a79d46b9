"""The code of lesson 22_prompting, for the pages after it.

Made from the cells tagged `export` of notebooks/22_prompting.ipynb.
Never edit: change the page, then `make made`.
"""

import atexit
import http.client
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import torch

from utils.lessons.gpt import KVCache


@torch.no_grad()
def score(model, pairs, batch=32):
    """log p(answer | prompt) for N pairs of lists of ids, natural logarithm, (N,).

    The prompt must not be empty: something must stand before an answer's first token.
    """
    sums = []
    for start in range(0, len(pairs), batch):
        part = pairs[start : start + batch]
        rows = [prompt + answer for prompt, answer in part]
        T = max(map(len, rows))
        ids = torch.tensor([row + [0] * (T - len(row)) for row in rows])
        states = model.hidden(ids[:, :-1])  # (B, T - 1, D)
        for (prompt, answer), row, x in zip(part, rows, states):
            x = x[len(prompt) - 1 : len(row) - 1]  # the places that predict the answer
            log_p = model.head(x).log_softmax(-1)
            sums.append(log_p.gather(1, torch.tensor(answer)[:, None]).sum())
    return torch.stack(sums)


@torch.no_grad()
def word_log_probs(model, prefix, questions, words):
    """log p of C next tokens after `prefix` and each of N questions, (N, C).

    prefix: ids before every question, read once   questions: N lists of ids   words: C ids
    """
    N, T, P = len(questions), max(map(len, questions)), len(prefix)
    ids = torch.tensor([row + [0] * (T - len(row)) for row in questions])
    cache, shape = None, model.config
    if prefix:
        sizes = P + T, shape.d_model // shape.n_heads
        one = KVCache(shape.n_layers, 1, shape.n_heads, *sizes)
        model.hidden(torch.tensor([prefix]), cache=one)
        cache = KVCache(shape.n_layers, N, shape.n_heads, *sizes)
        cache.keys[:], cache.values[:], cache.length = one.keys, one.values, P
    x = model.hidden(ids, cache=cache)  # (N, T, D)
    last = x[torch.arange(N), torch.tensor([len(row) - 1 for row in questions])]
    return model.head(last).log_softmax(-1)[:, words]


def calibrate(log_p, log_p_free):
    """log q, (N, C): probabilities over those of questions without content, renormalised.

    log_p: (N, C)   log_p_free: (M, C), the mean of their probabilities counts
    Source: Zhao et al. 2021, as in their code (the matrix diag(p_free)⁻¹, no offset).
    """
    p_free = log_p_free.exp().mean(0)
    return (log_p - p_free.log()).log_softmax(1)


class ServerError(RuntimeError):
    """Says in one sentence why the server does not run, and what to do."""


def free_port():
    """A port of this machine that nobody uses right now."""
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        return tried.getsockname()[1]


def serving_folder(folder):
    """A copy of a model's folder that says which class reads its tokenizer.json."""
    copy = Path(tempfile.mkdtemp()) / Path(folder).name
    atexit.register(shutil.rmtree, copy.parent, ignore_errors=True)
    shutil.copytree(folder, copy)
    kind = {"tokenizer_class": "PreTrainedTokenizerFast"}
    (copy / "tokenizer_config.json").write_text(json.dumps(kind), encoding="utf-8")
    return copy


LEASH = """
import os, runpy, sys, threading
ended = lambda: (sys.stdin.read(), os._exit(0))  # the pipe closes when whoever holds it ends
threading.Thread(target=ended, daemon=True).start()
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""


def leashed(module, *arguments):
    """The command line of a Python module that ends with the program that started it."""
    return [sys.executable, "-c", LEASH, module, *map(str, arguments)]


def serve_command(folder, port):
    """The command line of `transformers serve`, run by this Python, for this machine only."""
    place = ["--host", "127.0.0.1", "--port", port, "--device", "cpu"]
    return leashed("transformers.cli.transformers", "serve", folder, *place)


def require(*packages, port):
    """Raise a ServerError if a package is missing or somebody else has the port."""
    for name in packages:
        if importlib.util.find_spec(name) is None:
            why = f"The server needs {name}, which is not installed: `pip install {name}`."
            raise ServerError(why)
    with socket.socket() as tried:
        if tried.connect_ex(("127.0.0.1", port)) == 0:
            raise ServerError(f"Port {port} is taken by another program: choose another port.")


def healthy(port):
    """Does a server at this port answer that it is well?"""
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        line.request("GET", "/health")
        return line.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        line.close()


def stop_server(server, seconds=10):
    """End the server: ask politely, wait, then insist. Stopping twice does no harm."""
    if server.poll() is None:
        server.terminate()
        try:
            server.wait(seconds)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
    server.stdin.close()


@contextmanager
def guard(server):
    """If what is done inside fails or is stopped, the server is stopped, too."""
    try:
        yield
    except BaseException:  # the stop button as well
        stop_server(server)
        raise


def wait_until_well(server, port, seconds, log):
    """Return when the server answers; else raise a ServerError with its last line."""
    until = time.monotonic() + seconds
    while server.poll() is None and time.monotonic() < until:
        if healthy(port):
            return
        time.sleep(0.2)
    slow = f"did not answer within {seconds} seconds"
    why = slow if server.poll() is None else "ended before it answered"
    log.seek(0)
    last = (log.read().strip().splitlines() or ["it said nothing"])[-1]
    raise ServerError(f"The server {why}; its last line: {last}")


def start_server(command, port, seconds=90):
    """Start a server and wait until it is well; it ends with this Python at the latest."""
    require("fastapi", "uvicorn", "openai", port=port)
    offline = os.environ | {"HF_HUB_OFFLINE": "1"}
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        streams = {"stdin": subprocess.PIPE, "stdout": log, "stderr": subprocess.STDOUT}
        server = subprocess.Popen(command, env=offline, **streams)
        atexit.register(stop_server, server)
        with guard(server):
            wait_until_well(server, port, seconds, log)
    return server

"""Prompting: scores are those of the library, calibration does what it says, a server that cannot start says why."""

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from transformers import GPT2LMHeadModel

from utils import course, zoo
from utils.lessons import prompting
from utils.lessons.prompting import (
    ServerError,
    calibrate,
    free_port,
    guard,
    healthy,
    leashed,
    score,
    serve_command,
    serving_folder,
    start_server,
    stop_server,
    word_log_probs,
)

WELL = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()
HTTPServer(("127.0.0.1", int(sys.argv[1])), Answer).serve_forever()
"""


@pytest.fixture(scope="module")
def gpt():
    return zoo.load("gpt-200k")


@pytest.fixture(scope="module")
def pairs(gpt):
    ids = lambda text: gpt[1].encode(text).ids
    told = (
        ("Once upon a time", " there was a little girl."),
        ("Tom", " ran"),
        ("She felt very", " sad and cried"),
    )
    return [(ids(prompt), ids(answer)) for prompt, answer in told]


def test_scores_are_those_of_transformers(gpt, pairs):
    library = GPT2LMHeadModel.from_pretrained(course.data() / "zoo" / "gpt-200k", dtype=torch.float32)
    expected = []
    for prompt, answer in pairs:
        ids = torch.tensor([prompt + answer])
        labels = torch.tensor([[-100] * len(prompt) + answer])
        with torch.no_grad():
            expected.append(-library(ids, labels=labels).loss * len(answer))
    torch.testing.assert_close(score(gpt[0], pairs), torch.stack(expected), atol=1e-3, rtol=0)


def test_company_and_batch_size_change_no_score(gpt, pairs):
    alone = torch.cat([score(gpt[0], [pair]) for pair in pairs])
    torch.testing.assert_close(score(gpt[0], pairs), alone, atol=1e-4, rtol=0)
    torch.testing.assert_close(score(gpt[0], pairs, batch=2), alone, atol=1e-4, rtol=0)


def test_scores_obey_the_chain_rule(gpt, pairs):
    prompt, answer = pairs[0]
    whole, first, rest = score(
        gpt[0], [(prompt, answer), (prompt, answer[:2]), (prompt + answer[:2], answer[2:])]
    )
    torch.testing.assert_close(whole, first + rest, atol=1e-4, rtol=0)


@pytest.mark.parametrize("n_shown", [0, 1, 7])
def test_words_after_a_shared_prefix_score_as_without_the_cache(gpt, pairs, n_shown):
    model, tokenizer = gpt
    prefix = tokenizer.encode("Ben lost his hat. He was very sad.\n").ids[:n_shown]
    questions = [prompt for prompt, _ in pairs]
    words = [tokenizer.encode(word).ids[0] for word in (" sad", " happy")]
    expected = score(model, [(prefix + q, [word]) for q in questions for word in words]).view(-1, 2)
    found = word_log_probs(model, prefix, questions, words)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_calibration_makes_a_question_without_content_undecided():
    free = torch.randn(1, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(calibrate(free, free).exp(), torch.full((1, 3), 1 / 3))


def test_calibration_averages_probabilities_and_keeps_the_order_where_there_is_no_bias():
    log_p = torch.randn(5, 2, generator=torch.Generator().manual_seed(1))
    mirrored = torch.tensor([[0.9, 0.1], [0.1, 0.9]]).log()
    torch.testing.assert_close(calibrate(log_p, mirrored), log_p.log_softmax(1))
    biased = torch.tensor([[0.8, 0.2], [0.4, 0.4]]).log()  # on the mean 0.6 and 0.3
    expected = log_p.exp() / torch.tensor([0.6, 0.3])
    torch.testing.assert_close(calibrate(log_p, biased).exp(), expected / expected.sum(1, keepdim=True))


def test_a_server_starts_answers_and_stops_twice():
    port = free_port()
    server = start_server([sys.executable, "-c", WELL, str(port)], port, seconds=30)
    assert healthy(port)
    stop_server(server)
    stop_server(server)
    assert server.poll() is not None and not healthy(port)


def test_a_failure_under_guard_stops_the_server_and_is_passed_on():
    port = free_port()
    server = start_server([sys.executable, "-c", WELL, str(port)], port, seconds=30)
    with guard(server):
        pass
    assert healthy(port)
    with pytest.raises(KeyboardInterrupt):
        with guard(server):
            raise KeyboardInterrupt
    assert server.poll() is not None and not healthy(port)


def test_a_leashed_program_runs_and_ends_when_the_one_who_started_it_is_gone():
    port = free_port()
    command = leashed("http.server", port, "--bind", "127.0.0.1")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, stdin=subprocess.PIPE, **quiet) as server:
        until = time.monotonic() + 30
        while server.poll() is None and time.monotonic() < until:
            with socket.socket() as tried:
                if tried.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        assert server.poll() is None
        server.stdin.close()
        assert server.wait(30) == 0


def test_a_taken_port_is_named_and_nothing_is_started():
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        port = stranger.getsockname()[1]
        with pytest.raises(ServerError, match=f"Port {port} is taken.*choose another"):
            start_server(["no such program"], port)


def test_a_missing_package_is_named(monkeypatch):
    found = prompting.importlib.util.find_spec
    monkeypatch.setattr(
        prompting.importlib.util, "find_spec", lambda name: name != "fastapi" and found(name) or None
    )
    with pytest.raises(ServerError, match="needs fastapi, which is not installed"):
        start_server(["no such program"], free_port())


def test_a_server_that_ends_says_its_last_words():
    command = [sys.executable, "-c", "import sys; print('first'); sys.exit('the model is missing')"]
    with pytest.raises(ServerError, match="ended before it answered; its last line: the model is missing"):
        start_server(command, free_port(), seconds=30)


def test_a_server_that_never_answers_is_stopped_in_time():
    began = time.monotonic()
    with pytest.raises(ServerError, match="did not answer within 1 seconds"):
        start_server([sys.executable, "-c", "import time; time.sleep(60)"], free_port(), seconds=1)
    assert time.monotonic() - began < 15


def test_the_folder_to_serve_is_a_copy_that_names_its_tokenizer():
    source = course.data() / "zoo" / "gpt-200k"
    copy = serving_folder(source)
    assert (copy / "tokenizer_config.json").exists() and not (source / "tokenizer_config.json").exists()
    assert (copy / "model.safetensors").read_bytes() == (source / "model.safetensors").read_bytes()
    assert "@" not in str(copy)  # transformers would read a revision there


def test_the_command_listens_on_this_machine_only():
    command = serve_command(Path("folder"), 8123)
    assert command[0] == sys.executable and command[command.index("--host") + 1] == "127.0.0.1"
    assert command[command.index("--port") + 1] == "8123"
    assert command == leashed(*command[3:])  # it ends with the page

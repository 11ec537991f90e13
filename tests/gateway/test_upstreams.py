"""Real servers as upstreams: llama.cpp's, which honours n up to its slots, and ``transformers serve``."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bestfor.lm.location import locate
from support import needs
from support.gguf_of import convert

needs("xllamacpp", "gguf", "torch")
pytestmark = pytest.mark.slow

LLAMA = """
import sys, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.n_parallel, params.cpuparams.n_threads = sys.argv[1], 4, 1
params.n_ctx, params.warmup, params.port = 4096, False, 0
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
sys.stdin.read()
"""
ASKED = {"max_tokens": 12, "temperature": 1.0}


@pytest.fixture
def llama_cpp(tmp_path):
    convert(locate("embedded"), tmp_path / "policy.gguf")
    process = subprocess.Popen(
        [sys.executable, "-c", LLAMA, str(tmp_path / "policy.gguf")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    yield process.stdout.readline().strip() + "/v1"
    process.communicate("")


def test_llama_cpp_is_asked_once_up_to_its_slots_and_for_each_beyond(serve, llama_cpp):
    gateway = serve(upstream={"base_url": llama_cpp})
    for n, requests in ((3, 1), (8, 9), (8, 8), (4, 1)):
        own = gateway.ask("ann", bestfor={"n": n}, **ASKED).json()["bestfor"]
        assert (own["received"], own["requests"]) == (n, requests)
    texts = [
        one["text"]
        for one in gateway.ask("ann", bestfor={"n": 4, "candidates": True}, seed=3).json()["bestfor"]["candidates"]
    ]
    assert len(set(texts)) > 1
    streamed = gateway.ask("ann", bestfor={"n": 2}, stream=True, **ASKED)
    assert streamed.text.endswith("data: [DONE]\n\n")
    assert gateway.http.post("/v1/completions", json={"prompt": "The fair", **ASKED}).json()["bestfor"]["received"] == 8
    assert gateway.ask("ann", temperature="hot").status_code in (400, 500)
    assert gateway.http.get("/v1/models").json()["data"]


@pytest.fixture
def transformers_serve(tmp_path):
    import shutil
    import socket
    import threading
    import urllib.request

    folder = shutil.copytree(locate("embedded"), tmp_path / "model")
    turns = "{% for m in messages %}{{ m['content'] + '\\n' }}{% endfor %}"
    (folder / "chat_template.jinja").write_text(turns, encoding="utf-8")
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    command = [str(Path(sys.executable).with_name("transformers")), "serve", str(folder), "--device", "cpu"]
    with (tmp_path / "log").open("wb") as log:
        environment = {**os.environ, "HF_HOME": str(tmp_path / "hub")}
        process = subprocess.Popen([*command, "--port", str(port)], stdout=log, stderr=log, env=environment)
    for _ in range(1200):
        assert process.poll() is None, (tmp_path / "log").read_text()[-2000:]
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
            break
        except OSError:
            threading.Event().wait(0.1)
    yield f"http://127.0.0.1:{port}/v1", str(folder)
    process.terminate()
    process.wait()


def test_transformers_serve_gives_one_choice_and_is_asked_for_each(serve, transformers_serve):
    address, model = transformers_serve
    gateway = serve(upstream={"base_url": address, "model": model})
    own = gateway.ask("ann", bestfor={"n": 3}, **ASKED).json()["bestfor"]
    assert own["received"] == 3
    own = gateway.ask("ann", bestfor={"n": 3}, **ASKED).json()["bestfor"]
    assert (own["received"], own["requests"]) == (3, 3)

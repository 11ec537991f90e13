"""Run llama.cpp's server until standard input ends: a script of its own, in a process of its own.

Its only argument is a JSON object with the fields of :class:`bestfor.endpoint.local.LlamaSettings`. It prints the
address as soon as the model is loaded.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import threading
from typing import Any


def main(said: str) -> None:
    """Serve as ``said`` describes; the end of standard input, which its parent's death is too, ends the process."""
    # Ctrl+C goes to every process of a terminal: the parent says when this one ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    xllamacpp: Any = importlib.import_module("xllamacpp")
    try:
        server = xllamacpp.Server(_parameters(xllamacpp, json.loads(said)))
    except Exception as error:
        # At once: the interpreter's own end would stumble over the thread that reads, and hide these words.
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        sys.stderr.flush()
        os._exit(1)
    sys.stdout.write(server.listening_address + "\n")
    sys.stdout.flush()
    # Nobody reads on: what else is printed is not to fill the pipe.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    threading.Event().wait()


def _parameters(xllamacpp: Any, wanted: dict[str, Any]) -> Any:  # noqa: ANN401 - an optional library's classes
    params = xllamacpp.CommonParams()
    params.model.path = wanted["file"]
    params.port = wanted["port"]
    # Candidates of one prompt share its cache where all slots share one.
    params.n_parallel, params.n_ctx, params.kv_unified = wanted["slots"], wanted["context"], True
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = wanted["threads"]
    params.warmup, params.ui, params.verbosity = False, False, 1
    # Requests that do not say otherwise sample from the model itself, nothing cut off.
    params.sampling.top_k, params.sampling.top_p, params.sampling.min_p, params.sampling.temp = 0, 1.0, 0.0, 1.0
    # Prompts of different queries have little in common: no gigabytes of their states. Kept states do not say which
    # adapter they were computed with.
    params.cache_ram_mib = 0 if wanted["adapters"] else 256
    if wanted["adapters"]:
        params.lora_init_without_apply = True
        params.lora_adapters = [_adapter(xllamacpp, path) for path in wanted["adapters"]]
    return params


def _adapter(xllamacpp: Any, path: str) -> Any:  # noqa: ANN401 - an optional library's class
    adapter = xllamacpp.CommonAdapterLoraInfo()
    adapter.path, adapter.scale = path, 1.0
    return adapter


def _end_with_parent() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])

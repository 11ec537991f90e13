"""An S3 server on loopback, and an environment whose Python reaches it: this one's packages behind those of S3.

The environment lies within this one, in a folder named by what it holds, so that it is made once.
"""

import hashlib
import os
import shutil
import site
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

WANTED = Path(__file__).with_name("s3_requirements.txt")
KEYS = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests", "AWS_DEFAULT_REGION": "us-east-1"}


class CannotInstallError(Exception):
    """Packages of S3 cannot be had here."""


def environment():
    """Give the Python of the environment, which is made where it is not there.

    Raises:
        CannotInstallError: its packages cannot be had.
    """
    folder = Path(sys.prefix) / f"s3-{hashlib.sha256(WANTED.read_bytes()).hexdigest()[:8]}"
    if not folder.is_dir():
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=sys.prefix))
        try:
            _make(partial)
            partial.rename(folder)
        except OSError:
            if not folder.is_dir():  # else somebody else was faster
                raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return folder / "bin" / "python"


def _make(folder):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "--disable-pip-version-check"]
    done = subprocess.run([*pip, "install", "-q", "--no-deps", "-r", str(WANTED)], capture_output=True, text=True)
    if done.returncode:
        raise CannotInstallError((done.stderr.strip().splitlines() or ["pip failed"])[-1])
    (packages,) = folder.glob("lib/python*/site-packages")
    lines = [f"import site; site.addsitedir({path!r})\n" for path in site.getsitepackages()]
    (packages / "project.pth").write_text("".join(lines))


@contextmanager
def server(python):
    """Start a server; gives the variables by which its clients find it and the bucket ``s3://runs``."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    given = {**os.environ, **KEYS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "BESTFOR_TEST_S3": "s3://runs"}
    words = [str(python), "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(words, env=given, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(port, process)
        made = "import s3fs; s3fs.S3FileSystem().mkdir('runs')"
        subprocess.run([str(python), "-c", made], env=given, check=True)
        yield given
    finally:
        process.kill()
        process.wait()


def _wait(port, process):
    for _ in range(600):
        if process.poll() is not None:
            raise RuntimeError(f"the S3 server ended with {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError("the S3 server takes no connections")

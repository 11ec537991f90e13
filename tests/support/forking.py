"""Children of a process that has imported what is slow to import: they can be killed for real, at a fork's price."""

import json
import subprocess
import sys
from pathlib import Path

SLOW = ("bestfor.policies.finetune", "bestfor.policies.adapters", "bestfor.runs.run", "sentence_transformers")

SERVER = """
import importlib, json, os, sys, traceback

for name in sys.argv[1:]:
    importlib.import_module(name)
for line in sys.stdin:
    job = json.loads(line)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            log = os.open(job["log"], os.O_WRONLY | os.O_CREAT)
            for to, place in ((os.open(os.devnull, os.O_RDONLY), 0), (log, 1), (log, 2)):
                os.dup2(to, place)
            sys.argv = job["argv"]
            exec(compile(job["code"], "job", "exec"), {"__name__": "__main__"})
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Forks:
    """Starts one child at a time; nothing of one is left for the next."""

    def __init__(self, folder):
        self.log = Path(folder) / "child.log"
        command = [sys.executable, "-c", SERVER, *SLOW]
        self.server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def start(self, code, *argv):
        """Run a script; returns the child's process id. ``finish`` has to follow."""
        self.log.unlink(missing_ok=True)
        job = {"code": code, "argv": ["job", *map(str, argv)], "log": str(self.log)}
        self.server.stdin.write(json.dumps(job) + "\n")
        self.server.stdin.flush()
        return int(self.server.stdout.readline())

    def finish(self):
        """Wait for the child; returns its exit code, negative for a signal, and what it has said."""
        return int(self.server.stdout.readline()), self.log.read_text()

    def run(self, code, *argv):
        """Start and finish."""
        self.start(code, *argv)
        return self.finish()

    def close(self):
        """End the process, which has nothing to tidy up."""
        self.server.kill()
        self.server.communicate()

"""Start the command line: ``bestfor`` and ``python -m bestfor``."""

from __future__ import annotations

import os

# Threads that wait by spinning steal the cores from whatever else runs: on a busy machine sampling took three times as
# long. It must be said before torch loads its OpenMP runtime.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from bestfor.cli.app import main

__all__ = ["main"]

if __name__ == "__main__":
    raise SystemExit(main())

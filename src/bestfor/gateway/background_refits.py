"""Keep a gateway's models fresh: begin refits that are due in a process of their own, and serve what they bring.

Every gateway of a journal looks at it; the journal says who fits
(:func:`bestfor.serving.refit_schedule.keep_fresh`). The fit gives way to answers: it has one thread and a low priority.
It outlives the gateway that began it.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time

from bestfor.errors import BestforError
from bestfor.gateway.config import GatewayConfig, RefitTable
from bestfor.gateway.tenants import Services
from bestfor.serving.journal.refits import refits_of
from bestfor.serving.refit_schedule import RefitPolicy, growth, remove_old

log = logging.getLogger("bestfor.gateway")

NICE = 15
"""How much a refit gives way to other processes."""
PAUSE = 3600.0
"""Seconds without another refit after one that failed: what made it fail is seldom gone a minute later."""


class BackgroundRefits:
    """Looks at the journal now and then, in a thread of its own.

    Args:
        config: its ``refit`` says how often; None makes this do nothing.
        services: get the new models.
    """

    def __init__(self, config: GatewayConfig, services: Services) -> None:
        self._config, self._services = config, services
        self._end = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None
        self._began, self._not_before = time.time(), 0.0
        self._told: set[tuple[str, int]] = set()
        self._thread = threading.Thread(target=self._run, name="bestfor-refits", daemon=True)

    def start(self) -> None:
        """Begin to look, where the configuration says so."""
        if self._config.refit is not None:
            self._thread.start()

    def stop(self) -> None:
        """Look no more; a refit that is under way ends by itself."""
        self._end.set()
        if self._thread.is_alive():
            self._thread.join()

    def look(self, refit: RefitTable) -> None:
        """Serve what was fitted, and begin the first refit that is due."""
        for tenant in self._services.open_tenants():
            taken = self._services.take_newest(tenant)
            if taken is not None:
                log.info("serving %s", taken)
            self._tell(tenant)
            remove_old(self._services.journal, tenant, self._services.model)
        if self._child is not None and self._child.poll() is None:
            return
        if self._child is not None and self._child.returncode:
            log.warning("refit: ended with status %d; the next one in an hour at the earliest", self._child.returncode)
            self._not_before = time.monotonic() + PAUSE
        self._child = None
        if refit.fits and time.monotonic() >= self._not_before:
            due = (tenant for tenant in self._services.open_tenants() if self._is_due(tenant, refit))
            tenant = next(due, None)
            if tenant is not None:
                self._child = self._begin(tenant, refit)

    def _run(self) -> None:
        refit = self._config.refit
        while refit is not None and not self._end.is_set():
            try:
                self.look(refit)
            except BestforError as error:
                log.warning("refit: %s", error)
            except Exception as error:  # the thread has to live as long as its gateway
                log.warning("refit: %s", type(error).__name__)
            self._end.wait(refit.every)

    def _is_due(self, tenant: str, refit: RefitTable) -> bool:
        policy = RefitPolicy(refit.share, refit.least, refit.folder or None)
        return growth(self._services.journal, tenant, self._services.model, policy).due

    def _tell(self, tenant: str) -> None:
        """Log each refit that ended since this process began, once, with its reason."""
        for one in refits_of(self._services.journal, self._services.model.digest, tenant):
            if (one.ended or 0.0) < self._began or (tenant, one.number) in self._told:
                continue
            self._told.add((tenant, one.number))
            log.info("refit %d: %s, %s", one.number, one.state, one.report.get("reason", ""))

    def _begin(self, tenant: str, refit: RefitTable) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "bestfor", "refit", str(self._services.model.folder), "--tenant", tenant]
        command += ["--share", str(refit.share), "--least", str(refit.least), "--nice", str(NICE)]
        if refit.folder:
            command += ["--out", refit.folder]
        if self._config.labels is not None:
            command += ["--worst", str(self._config.labels.worst), "--best", str(self._config.labels.best)]
        # The journal's address may hold a password, which a command line would show to everybody.
        address = self._services.journal.url.render_as_string(hide_password=False)
        known = {**os.environ, "BESTFOR_JOURNAL": address, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        log.info("refit: begun")
        return subprocess.Popen(
            command,
            env=known,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

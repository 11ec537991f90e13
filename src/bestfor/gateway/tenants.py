"""Open the served model and the journal once, and keep a service for each tenant."""

from __future__ import annotations

import threading
from functools import cached_property
from pathlib import Path
from typing import Any

from bestfor.encoders.names import JOIN, STATIC, parsed
from bestfor.errors import BestforError
from bestfor.gateway.config import GatewayConfig
from bestfor.gateway.identity import NOBODY
from bestfor.runs.diagnosed import load_diagnosis
from bestfor.serving.base import ServedModel, open_model
from bestfor.serving.journal import Journal
from bestfor.serving.labels import LabelScale
from bestfor.serving.refit_schedule import newest
from bestfor.serving.service import Service, ServiceOptions

ENOUGH = 10
"""Queries of a user from which a diagnosis is believed that more candidates bring them nothing."""


class Services:
    """Services of all tenants, of one model and one journal.

    Args:
        config: what is served.
        model: takes the place of the configuration's source.
        **options: as for :class:`bestfor.Service`.

    Raises:
        InputError: no such model, journal or rule.
        JournalError: the journal cannot be opened.
    """

    def __init__(self, config: GatewayConfig, model: ServedModel | None = None, **options: Any) -> None:  # noqa: ANN401
        self._config, self._options = config, options
        given = {name: value for name, value in options.items() if name in ("encoder", "cache", "kinds")}
        self.model = open_model(config.source, **given) if model is None else model
        self.journal = Journal(config.journal)
        self._lock = threading.Lock()
        self._services: dict[str, Service] = {}
        try:
            self.of("")
        except BaseException:
            self.journal.close()
            raise

    def of(self, tenant: str) -> Service:
        """Give the service of a tenant."""
        found = self._services.get(tenant)
        if found is not None:
            return found
        with self._lock:
            if tenant not in self._services:
                self._services[tenant] = self._open(tenant)
            return self._services[tenant]

    def is_open(self, tenant: str) -> bool:
        """Tell whether a tenant's service is there already; opening one reads files."""
        return tenant in self._services

    def open_tenants(self) -> list[str]:
        """List the tenants whose services are there."""
        return sorted(self._services)

    def take_newest(self, tenant: str) -> str | None:
        """Serve a tenant's newest refit from now on; gives its folder where it is another one than before.

        Raises:
            InputError: it cannot be opened; the model that was served goes on.
        """
        service, folder = self.of(tenant), newest(self.journal, tenant, self.model)
        if folder is None or service.folder == folder:
            return None
        service.reload(folder)
        return str(folder)

    def close(self) -> None:
        """Close the journal."""
        self.journal.close()

    def known(self, tenant: str, user: str) -> tuple[bool, bool]:
        """Say what the run's diagnosis found of a user.

        Returns:
            Whether their own part has collapsed, and whether more candidates brought them nothing.
        """
        if tenant or not self._config.defaults.adaptive:
            return False, False
        found = self._diagnosed.get(user, (False, False))
        # What they said since, the diagnosis does not know.
        return found if any(found) and not self.journal.labels_of(tenant, user) else (False, False)

    def warm(self) -> None:
        """Score a text, so that no request waits for what is loaded once.

        Raises:
            InputError: the model's encoder is not here.
            MissingExtraError: nor is what it is made of.
        """
        self.model.model.score(NOBODY, "", ["text"])

    @cached_property
    def quick(self) -> bool:
        """True where a pick takes so little time that it need not leave the event loop.

        The model's kind learns in closed form, no text goes through a network of its own, and the journal is a file.
        """
        model = self.model.model
        config = model.config
        encodes = model.uses_encoder() and getattr(config, "components", 1) > 0
        cheap = not encodes or all(parsed(one)[0] == STATIC for one in str(config.encoder).split(JOIN))
        return cheap and model.learns and not model.extras and self.journal.url.get_backend_name() == "sqlite"

    @cached_property
    def _diagnosed(self) -> dict[str, tuple[bool, bool]]:
        folder, run = self.model.folder, self.model.run
        if folder is None or run is None or not (run / "diagnosis.json").is_file():
            return {}
        try:
            models = load_diagnosis(run)["models"]
        except (BestforError, KeyError, ValueError):
            return {}
        rows = models.get(Path(folder).name, {}).get("per_user") or []
        return {
            row["user"]: (bool(row.get("collapsed")), row.get("queries", 0) >= ENOUGH and (row.get("gain") or 0) <= 0)
            for row in rows
        }

    def _open(self, tenant: str) -> Service:
        defaults = self._config.defaults
        config = self._config
        options: ServiceOptions = {"on_disk": config.on_disk, "others": config.others, **self._options}  # pyright: ignore[reportAssignmentType]
        labels = self._config.labels
        if labels is not None:
            options["scale"] = LabelScale(labels.worst, labels.best, labels.rating)
        service = Service(self.model, self.journal, defaults.rule, defaults.explore, tenant, **options)
        folder = None if self._config.refit is None else newest(self.journal, tenant, self.model)
        if folder is not None:
            service.reload(folder)
        return service

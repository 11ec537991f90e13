"""Hold what all routes of a gateway share."""

from __future__ import annotations

from dataclasses import dataclass

from bestfor.gateway.access import Access
from bestfor.gateway.answering import Answering
from bestfor.gateway.config import GatewayConfig
from bestfor.gateway.limits import Limits
from bestfor.gateway.meters import Meters
from bestfor.gateway.tenants import Services
from bestfor.gateway.upstream import Upstream


@dataclass(frozen=True)
class Gateway:
    """Parts of a gateway."""

    config: GatewayConfig
    services: Services
    writer: Upstream
    access: Access
    limits: Limits
    meters: Meters
    answering: Answering

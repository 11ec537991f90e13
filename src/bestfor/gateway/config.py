"""Read ``gateway.toml``: what is served, its upstream, defaults of requests, who users are, limits and links."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from bestfor.endpoint.address import is_loopback
from bestfor.errors import InputError
from bestfor.validation import WrongKey, validated

Detail = Literal["off", "short", "full"]
"""How much of ``bestfor: {...}`` stands in an answer."""

KEYS_FILE = "bestfor-keys.json"
"""Default file of API keys and of the secret that signs links."""


class GatewayTable(BaseModel):
    """Table of ``gateway.toml``: unknown keys are errors, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class UpstreamTable(GatewayTable):
    """The OpenAI-compatible server that writes candidates.

    Attributes:
        base_url: its address up to ``/v1``; only this file or the command line says it, never a request.
        model: takes the place of a request's ``model``; "" passes that on.
        key_env: the environment variable that holds its key.
        timeout: seconds for one request, to the last byte.
        connections: connections of the pool at most.
        n: whether it honours ``n``: ``auto`` finds out.
        answer_bytes: the longest answer that is read.
        failures: lost requests in a row after which it is left alone for a while.
        pause: seconds of the first pause; doubled up to a minute while it stays lost.
    """

    base_url: str = Field(repr=False)
    model: str = ""
    key_env: str = ""
    timeout: float = Field(default=120.0, gt=0)
    connections: int = Field(default=256, ge=1)
    n: Literal["auto", "yes", "no"] = "auto"
    answer_bytes: int = Field(default=64 << 20, ge=1024)
    failures: int = Field(default=5, ge=1)
    pause: float = Field(default=2.0, gt=0)


class DefaultsTable(GatewayTable):
    """Defaults of requests that do not say otherwise.

    Attributes:
        n: candidates.
        most: the most candidates that a request may ask for.
        rule: picks among them.
        explore: share of answers picked at random, so that logs can be evaluated.
        k: so many candidates are enough; None waits for all.
        deadline: seconds after which the answer is made of those that came; None waits for all.
        detail: how much of ``bestfor`` stands in an answer.
        candidates: whether all candidates are returned with their rewards.
        adaptive: whether the run's diagnosis decides for its users: a collapsed own part is not used, and a user to
            whom more candidates brought nothing gets one.
    """

    n: int = Field(default=8, ge=1)
    most: int = Field(default=64, ge=1)
    rule: str = "best"
    explore: float = Field(default=0.0, ge=0, le=1)
    k: int | None = Field(default=None, ge=1)
    deadline: float | None = Field(default=None, gt=0)
    detail: Detail = "full"
    candidates: bool = False
    adaptive: bool = True


class UsersTable(GatewayTable):
    """Trusted sources of the user's id, which go before headers and keys that any client may set.

    Attributes:
        header: a header that a trusted proxy sets; "" for none.
        jwt_header: header with a signed token, ``Bearer`` before it or not.
        jwt_key_env: environment variable with the secret that verifies it; "" for no tokens.
        jwt_key_file: file with a public key, instead.
        jwt_algorithms: that are accepted.
        jwt_claim: the claim that names the user.
        jwt_audience: the audience that a token must name; "" for any.
        jwt_issuer: the issuer that a token must name; "" for any.
        forward: whether ``user``, ``safety_identifier`` and ``metadata`` are passed on to the upstream.
    """

    header: str = ""
    jwt_header: str = "X-Bestfor-JWT"
    jwt_key_env: str = ""
    jwt_key_file: str = ""
    jwt_algorithms: tuple[str, ...] = ("HS256",)
    jwt_claim: str = "sub"
    jwt_audience: str = ""
    jwt_issuer: str = ""
    forward: bool = True


class LimitsTable(GatewayTable):
    """Limits of one tenant, counted over all processes that share the journal.

    Attributes:
        requests_per_minute: None for no limit.
        tokens_per_minute: tokens that its candidates may have together; None for no limit.
    """

    requests_per_minute: int | None = Field(default=None, ge=1)
    tokens_per_minute: int | None = Field(default=None, ge=1)


class LinksTable(GatewayTable):
    """Signed links by which a person says what they think of one answer, without an API key.

    Attributes:
        public_url: the gateway's address as people reach it; "" takes the one of the request.
        days: how long a link holds.
    """

    public_url: str = ""
    days: float = Field(default=30.0, gt=0)


class RefitTable(GatewayTable):
    """Conditions under which a tenant's model is fitted again, in another process of this machine.

    Attributes:
        share: growth of the labels from which one is due, over the run's rows and the labels of the refit before.
        least: new labels below which none is due.
        every: seconds between looks at the journal.
        folder: of the new models; "" takes ``refits`` in the run's folder. Gateways of several machines need one that
            all of them see.
        fits: False where this process only takes over what others have fitted.
    """

    share: float = Field(default=0.2, gt=0)
    least: int = Field(default=200, ge=1)
    every: float = Field(default=60.0, gt=0)
    folder: str = ""
    fits: bool = True


class LabelsTable(GatewayTable):
    """Scale of labels, for a model whose run nobody knows; a run says its own.

    Attributes:
        worst: utility of the lowest rating, in the units of the model's own labels.
        best: utility of the highest.
        rating: lowest and highest number that people give.
    """

    worst: float = 0.0
    best: float = 1.0
    rating: tuple[float, float] = (0.0, 1.0)


class GatewayConfig(GatewayTable):
    """All that a gateway is started with.

    Attributes:
        source: a run's folder or a model's.
        upstream: who writes candidates; None for the policy of the run, or the shipped one, in this process.
        journal: address of the journal.
        on_disk: what is on the disk before a request is answered: ``labels`` alone, or ``all``; answers are then with
            the operating system, which the end of this process leaves whole and a power cut may not.
        others: of each candidate, how many labels of other people are looked at, the newest ones; 0 leaves others out.
        host: address to listen on; one that is not loopback needs API keys.
        port: to listen on.
        keys: file of API keys.
        body_bytes: the longest request that is read.
        log_requests: whether each request leaves a line on standard error: route, status, time, hashed user.
        keepalive: seconds between comment lines while a stream waits for its candidates.
        defaults: of requests.
        users: who they are.
        limits: of each tenant.
        tenants: limits of single tenants by name.
        links: signed links.
        labels: how labels are read; None for the scale of the run.
        refit: when models are fitted again; None never does, and takes over nobody's.
    """

    source: str = Field(min_length=1)
    upstream: UpstreamTable | None = None
    journal: str = "feedback.db"
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    on_disk: Literal["all", "labels"] = "labels"
    others: int = Field(default=30, ge=0, le=1000)
    keys: str = KEYS_FILE
    body_bytes: int = Field(default=4 << 20, ge=1024)
    keepalive: float = Field(default=5.0, gt=0)
    log_requests: bool = True
    defaults: DefaultsTable = DefaultsTable()
    users: UsersTable = UsersTable()
    limits: LimitsTable = LimitsTable()
    tenants: Mapping[str, LimitsTable] = Field(default_factory=dict)
    links: LinksTable = LinksTable()
    labels: LabelsTable | None = None
    refit: RefitTable | None = None

    @property
    def loopback(self) -> bool:
        """True where only this machine reaches it."""
        return is_loopback(self.host)


def load_gateway_config(path: Path | None, given: Mapping[str, Any]) -> GatewayConfig:
    """Read a file, and let what is given take the place of what it says.

    Args:
        path: of ``gateway.toml``; None for nothing but what is given.
        given: tables and keys; None stands for what is not given.

    Raises:
        InputError: no such file, no TOML, an unknown key or a value out of range; addresses are not repeated.
    """
    values = {} if path is None else _read(path)
    merged = _merged(values, given)
    where = "serve" if path is None else str(path)
    return validated(GatewayConfig, merged, lambda wrong: _worded(where, wrong))


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(str(path), "no file", "a gateway's configuration") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(str(path), f"no TOML ({error})", "a gateway's configuration") from None


def _merged(values: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(values)
    for name, value in given.items():
        if isinstance(value, Mapping):
            inner = _merged(merged.get(name) or {}, value)
            if inner or name in merged:
                merged[name] = inner
        elif value is not None:
            merged[name] = value
    return merged


def _worded(where: str, wrong: WrongKey) -> InputError:
    return InputError(f"{where}, {wrong.place}" if wrong.place else where, wrong.found, wrong.expected)

"""The backend of a Ray cluster: actors that hold what a plan works with, a bounded number of tasks under way.

Ray Core alone is used. Actors start once and go from plan to plan, as a run has many. Whatever asks a server, or works
in threads, stays in the asking process: the server is elsewhere already.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

from bestfor.backends.base import Backend, LostWorkerError, Plan, PlanTask, at_least, opened
from bestfor.backends.local import in_threads
from bestfor.backends.processes import attempted_with, unpacked
from bestfor.backends.scheduling import Crew, done_here, scheduled
from bestfor.errors import BestforError, InputError
from bestfor.extras import require

PASSED_ON = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "HF_HUB_OFFLINE")
"""Environment that workers get as the asking process has it: how many threads a product has decides its last bits."""
STORE = 512 * 1024**2
"""Bytes of the object store of a cluster that is started here."""
_NO_STATISTICS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


@dataclass(frozen=True)
class Ray(Backend):
    """Does tasks on the workers of a Ray cluster.

    Attributes:
        address: of the cluster: ``auto`` finds one that runs on this machine, ``HOST:PORT`` or ``ray://HOST:PORT`` one
            elsewhere; ``local`` starts one here, of ``workers`` processes.
        workers: tasks that are done at once; 0 takes as many as the cluster has room for.
        in_flight: tasks that are sent and not back; 0 takes two a worker. More hide a slow network, and cost memory.
        cpus: processors that a worker takes.
        gpus: GPUs that a worker takes; a part of one shares it.
    """

    kind: ClassVar[str] = "ray"
    extras: ClassVar[tuple[str, ...]] = ("ray",)

    address: str = "local"
    workers: int = 0
    in_flight: int = 0
    cpus: float = 1.0
    gpus: float = 0.0

    def __post_init__(self) -> None:
        for name in ("workers", "in_flight", "cpus", "gpus"):
            at_least(name, getattr(self, name), 0)

    def run(self, plan: Plan) -> Generator[tuple[PlanTask, Any]]:
        """Do the tasks of a plan by the cluster, where they can go there.

        Raises:
            InputError: no cluster at the address, or none with a worker's processors and GPUs.
        """
        if plan.threads > 1 or plan.interrupt is not None:
            return in_threads(plan)
        if not plan.portable:
            return done_here(plan, opened(plan.held))
        ray = _connected(self)
        return scheduled(plan, _RayCrew(ray, plan, self, _room(ray, self)))

    def close(self) -> None:
        """Leave the cluster; one that was started here ends."""
        ray = require("ray", "ray")
        _kept.clear()
        if ray.is_initialized():
            ray.shutdown()


def _connected(backend: Ray) -> Any:  # noqa: ANN401 - an optional library
    for name, value in _NO_STATISTICS.items():
        os.environ.setdefault(name, value)
    ray = require("ray", "ray")
    if ray.is_initialized():
        return ray
    _kept.clear()  # of a cluster that was left
    how: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "namespace": "bestfor"}
    # Said, not left to the cluster: an actor of one processor would get one thread, and other bits.
    threads = os.environ.get("OMP_NUM_THREADS") or str(len(os.sched_getaffinity(0)))
    said = {name: os.environ[name] for name in PASSED_ON if name in os.environ} | {"OMP_NUM_THREADS": threads}
    if backend.address == "local":
        how |= {"include_dashboard": False, "num_cpus": max(1, backend.workers) * backend.cpus or 1}
        how |= {"object_store_memory": STORE, "_node_ip_address": "127.0.0.1"}
    else:
        how["runtime_env"] = {"env_vars": said}
    try:
        with _environment(said):
            ray.init(address=backend.address, **how)
    except Exception as error:  # a cluster that does not start says so in many ways
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            "[backend] address", f"'{backend.address}' ({reason})", "a Ray cluster that answers"
        ) from error
    return ray


@contextmanager
def _environment(said: Mapping[str, str]) -> Iterator[None]:
    """Set variables while a cluster starts here, which hands them on; this process read its own before."""
    before = {name: os.environ.get(name) for name in said}
    os.environ.update(said)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _room(ray: Any, backend: Ray) -> int:  # noqa: ANN401 - an optional library
    """Count the workers that the cluster has room for, of those that are asked for."""
    there = ray.cluster_resources()
    needs = {"CPU": backend.cpus, "GPU": backend.gpus}
    room = min((int(there.get(name, 0) / need + 1e-9) for name, need in needs.items() if need), default=1)
    if room < 1:
        found = f"a cluster with {there.get('CPU', 0):g} processors and {there.get('GPU', 0):g} GPUs"
        raise InputError("[backend]", found, f"room for a worker of {backend.cpus:g} and {backend.gpus:g}")
    return min(room, backend.workers) if backend.workers else room


_kept: dict[float, list[Any]] = {}
"""Actors that wait for the next plan, by the processors that each takes: starting one takes seconds."""


class _RayCrew(Crew):
    """Actors of a cluster."""

    def __init__(self, ray: Any, plan: Plan, backend: Ray, room: int) -> None:  # noqa: ANN401 - an optional library
        in_flight = backend.in_flight or 2 * room
        self._ray, self._plan, self._backend = ray, plan, backend
        self._held = ray.put(plan.held)
        self.most = min(room, in_flight)
        self.ahead = -(-in_flight // self.most)
        # A plain class until here, so that this file can be read without ray.
        needs = {"num_cpus": backend.cpus, "num_gpus": backend.gpus}
        self._actor = ray.remote(max_restarts=0, max_task_retries=0, **needs)(_Holder)
        self._open: set[Any] = set()
        self._busy: set[Any] = set()
        _end_kept(ray, but=backend.cpus)

    def open(self) -> Any:  # noqa: ANN401 - an actor
        """Start an actor, or take one that waits."""
        waiting = [] if self._backend.gpus else _kept.get(self._backend.cpus, [])
        actor = waiting.pop() if waiting else self._actor.remote()
        actor.hold.remote([self._held])
        self._open.add(actor)
        return actor

    def send(self, worker: Any, task: PlanTask) -> Any:  # noqa: ANN401 - an actor, and a reference
        """Give a task to an actor."""
        handle = worker.do.remote(self._plan.work, task.inputs)
        self._busy.add(handle)
        return handle

    def wait(self, handles: Collection[Any], *, block: bool) -> Collection[Any]:
        """Tell which tasks are done."""
        found = list(handles)
        count, timeout = (1, None) if block else (len(found), 0)
        return self._ray.wait(found, num_returns=count, timeout=timeout)[0]

    def take(self, handle: Any) -> Any:  # noqa: ANN401 - a reference, and what the function returns
        """Give what a task has made."""
        errors = self._ray.exceptions
        self._busy.discard(handle)
        try:
            return unpacked(self._ray.get(handle))
        except (errors.RayActorError, errors.WorkerCrashedError, errors.ObjectLostError, errors.NodeDiedError) as error:
            reason = str(error).strip().splitlines()[0]
            raise LostWorkerError(f"a worker was lost before its work was done ({reason})") from error
        except errors.RayTaskError as error:
            cause = error.cause if isinstance(error.cause, BestforError) else None
            raise cause or BestforError(f"{self._plan.name}: {_last_line(error)}") from error

    def end(self, worker: Any) -> None:  # noqa: ANN401 - an actor
        """Forget an actor that is gone."""
        self._open.discard(worker)

    def close(self) -> None:
        """Keep the actors for the next plan; end them where they still work, or could keep a GPU's memory."""
        for actor in self._open:
            if self._busy or self._backend.gpus:
                self._ray.kill(actor)
            else:
                actor.hold.remote([])
                _kept.setdefault(self._backend.cpus, []).append(actor)
        self._open.clear()


def _end_kept(ray: Any, *, but: float | None = None) -> None:  # noqa: ANN401 - an optional library
    """End the actors that wait, but for those that take so many processors: others would hold them for nothing."""
    for cpus in [cpus for cpus in _kept if cpus != but]:
        for actor in _kept.pop(cpus):
            ray.kill(actor)


class _Holder:
    """Holder of what a plan works with, in a worker; an actor of the cluster."""

    def __init__(self) -> None:
        self._given: list[Any] = []
        self._held: list[Any] = []

    def hold(self, given: list[Any]) -> None:
        """Let go what is held for something else, which the next task opens: its errors are that task's."""
        self._given, self._held = given, []

    def do(self, work: Any, inputs: tuple[Any, ...]) -> Any:  # noqa: ANN401 - the plan's
        """Do a task."""
        return attempted_with(self, _done_with, (work, inputs))

    def opened(self) -> Any:  # noqa: ANN401 - the plan's
        """Give what is held."""
        if not self._held:
            import ray

            self._held = [opened(ray.get(self._given[0]))]
        return self._held[0]


def _done_with(holder: _Holder, work: Any, inputs: tuple[Any, ...]) -> Any:  # noqa: ANN401 - the plan's
    return work(holder.opened(), *inputs)


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]

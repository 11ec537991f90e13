"""Count what a gateway does, as Prometheus reads it; no label ever holds a user, a tenant or a text."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

_TIMES = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120)
_RANKS = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
_MARGINS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


class Meters:
    """Meters of one gateway, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own = self.registry
        self.requests = Counter("bestfor_requests", "Requests by route and status.", ("route", "status"), registry=own)
        self.candidates = Counter(
            "bestfor_candidates", "Candidates by what became of them.", ("outcome",), registry=own
        )
        self.served = Counter("bestfor_served", "Answers by what scored them.", ("served",), registry=own)
        self.feedback = Counter(
            "bestfor_feedback", "Labels by kind and what they did.", ("kind", "status"), registry=own
        )
        self.chosen = Histogram(
            "bestfor_chosen_place",
            "Place of the chosen candidate in the order of arrival.",
            buckets=_RANKS,
            registry=own,
        )
        self.margin = Histogram(
            "bestfor_reward_margin",
            "Reward of the chosen candidate above the mean of all.",
            buckets=_MARGINS,
            registry=own,
        )
        self.latency = Histogram(
            "bestfor_latency_seconds", "Time of answers by part.", ("part",), buckets=_TIMES, registry=own
        )
        # Looked up once: every answer counts in each.
        self.spent = {part: self.latency.labels(part) for part in ("upstream", "scoring", "own")}
        self.became = {outcome: self.candidates.labels(outcome) for outcome in ("came", "failed", "late")}

    def exposition(self) -> bytes:
        """Write all meters in Prometheus' text format."""
        return generate_latest(self.registry)

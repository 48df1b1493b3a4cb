"""The front door's counters, in Prometheus's text format, beside Triton's own metrics."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

FIRST_SOUND = (0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30)


class Metrics:
    """The metrics of one server; each has its own registry, so that several can run in one process."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter("tritone_requests", "Requests that were passed on", ["model"], registry=registry)
        self.refused = Counter("tritone_refused", "Requests that were refused", ["model", "status"], registry=registry)
        self.cancelled = Counter(
            "tritone_cancelled", "Requests whose client left before the end", ["model"], registry=registry
        )
        self.failed = Counter("tritone_failed", "Requests lost with a model's process", ["model"], registry=registry)
        self.active = Gauge("tritone_active_requests", "Requests inside Triton", ["model"], registry=registry)
        self.paused = Gauge("tritone_paused_streams", "Streams whose clients do not read", registry=registry)
        self.waiting = Gauge("tritone_waiting_requests", "Whole utterances waiting for a place", registry=registry)
        self.first_sound = Histogram(
            "tritone_first_sound_seconds", "From a stream's request to its first sound", ["model"],
            buckets=FIRST_SOUND, registry=registry,
        )  # fmt: skip
        self.speech = Counter("tritone_speech_seconds", "Speech that was answered", ["model"], registry=registry)
        self.speed = Gauge(
            "tritone_speed", "Measured speed: seconds of speech a second, all streams", registry=registry
        )
        self.streams = Gauge("tritone_stream_limit", "Streams admitted at a time", registry=registry)
        self.ready = Gauge("tritone_ready", "1 if every model answers", registry=registry)
        self.restarts = Counter(
            "tritone_restarts", "Models loaded again and servers started again", ["model", "reason"], registry=registry
        )
        self.memory = Gauge(
            "tritone_resident_bytes", "Resident memory of a server's process", ["process"], registry=registry
        )

    def text(self) -> bytes:
        """Return the page of all metrics."""
        return generate_latest(self.registry)

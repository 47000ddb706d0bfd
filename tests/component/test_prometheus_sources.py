"""What a real Prometheus makes of counters and histograms, and what is read of it: duplicates, native histograms."""

import math
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from rich.console import Console
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from backstay.adapters.prometheus.client import Place, Prometheus
from backstay.adapters.prometheus.histograms import Histogram, edges_of
from backstay.controller.evidence.following import Interest, Trial
from backstay.controller.evidence.loop import EvidenceLoop
from backstay.controller.evidence.profiles import METRICS, REQUESTS, CounterPair
from backstay.controller.evidence.sources import Buckets, sources, templates
from backstay.domain.observed import Backend
from backstay.domain.resource import Analysis, Dependence, Key
from backstay.domain.signals import Comparison, Events, Latency, OwnCounters, OwnHistogram, Profile, Signal
from backstay.judge.arrays import Floats
from backstay.judge.dependence import dispersion
from backstay.judge.memory import Memory
from backstay_playground.build import binaries

pytestmark = pytest.mark.component

KEY = Key("prod", "fraud")
PLACE = Place(Backend("aaa"), "fraud-aaa-1")
LABELS = {"namespace": "prod", "modeldeployment": "fraud", "revision": "aaa", "track": "primary", "pod": PLACE.pod}
WRITTEN = ",".join(f'{name}="{value}"' for name, value in LABELS.items())
SELECTOR = '{revision=~"$revisions"}'
ANALYSIS = Analysis(
    interval=2.0,
    alpha=0.05,
    signals=(
        Signal("errors", Comparison()),
        Signal("latency", Latency()),
        Signal("wait", Latency(source=OwnHistogram(f"wait_seconds{SELECTOR}"))),
        Signal("broken", Comparison(source=OwnCounters("sum by (("))),
    ),
)


def _native(counts: dict[int, int]) -> bytes:
    """Write a native histogram of schema 1, bucket index to count, in the protobuf exposition format."""
    family = _MESSAGES["MetricFamily"](name="wait_seconds", type=4)
    metric = family.metric.add()
    for name, value in LABELS.items():
        metric.label.add(name=name, value=value)
    histogram = metric.histogram
    histogram.sample_count, histogram.sample_sum = sum(counts.values()), float(sum(counts.values()))
    histogram.schema, histogram.zero_threshold = 1, 1e-6
    before_index, before_count = 0, 0
    for place, (index, count) in enumerate(sorted(counts.items())):
        histogram.positive_span.add(offset=index - before_index - (1 if place else 0), length=1)
        histogram.positive_delta.append(count - before_count)
        before_index, before_count = index, count
    data: bytes = family.SerializeToString()
    return _varint(len(data)) + data


def _varint(number: int) -> bytes:
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])


def _messages() -> dict[str, Any]:
    """Declare the part of Prometheus' exposition format that is written here."""
    kinds = descriptor_pb2.FieldDescriptorProto
    declared = {
        "LabelPair": [("name", 1, kinds.TYPE_STRING), ("value", 2, kinds.TYPE_STRING)],
        "BucketSpan": [("offset", 1, kinds.TYPE_SINT32), ("length", 2, kinds.TYPE_UINT32)],
        "Histogram": [
            ("sample_count", 1, kinds.TYPE_UINT64),
            ("sample_sum", 2, kinds.TYPE_DOUBLE),
            ("schema", 5, kinds.TYPE_SINT32),
            ("zero_threshold", 6, kinds.TYPE_DOUBLE),
            ("positive_span", 12, "BucketSpan"),
            ("positive_delta", 13, -kinds.TYPE_SINT64),
        ],
        "Metric": [("label", 1, "LabelPair"), ("histogram", 7, "Histogram!")],
        "MetricFamily": [("name", 1, kinds.TYPE_STRING), ("type", 3, kinds.TYPE_INT32), ("metric", 4, "Metric")],
    }
    file = descriptor_pb2.FileDescriptorProto(name="exposition.proto", package="exposition", syntax="proto2")
    for name, fields in declared.items():
        message = file.message_type.add(name=name)
        for field_name, number, kind in fields:
            one = message.field.add(name=field_name, number=number)
            single = (isinstance(kind, int) and kind > 0) or (isinstance(kind, str) and kind.endswith("!"))
            one.label = kinds.LABEL_OPTIONAL if single else kinds.LABEL_REPEATED
            if isinstance(kind, str):
                one.type, one.type_name = kinds.TYPE_MESSAGE, f".exposition.{kind.rstrip('!')}"
            else:
                one.type = abs(kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"exposition.{name}")) for name in declared
    }


_MESSAGES = _messages()


@dataclass(frozen=True)
class Past:
    """What two pods counted in the last minutes, all told at once and with its times (Unix seconds)."""

    times: tuple[float, ...]
    requests: Floats
    errors: Floats

    def text(self) -> bytes:
        lines = []
        for name, counts in (("requests", self.requests), ("errors", self.errors)):
            lines.append(f"# TYPE backstay_{name}_total counter")
            for pod in range(counts.shape[1]):
                labels = WRITTEN.replace(PLACE.pod, f"pod-{pod}")
                lines += [
                    f"backstay_{name}_total{{{labels}}} {count:.0f} {time * 1000:.0f}"
                    for time, count in zip(self.times, counts[:, pod].cumsum(), strict=True)
                ]
        return "\n".join([*lines, ""]).encode()


@dataclass(frozen=True)
class Recorded:
    """What another kind of server told; its labels say nothing of pods."""

    file: Path

    def text(self) -> bytes:
        return self.file.read_bytes()


@dataclass(frozen=True)
class Exporter:
    """A model server's metrics."""

    requests: int
    errors: int
    slow: int
    waits: dict[int, int]

    def text(self) -> bytes:
        lines = [
            "# TYPE backstay_requests_total counter",
            f"backstay_requests_total{{{WRITTEN}}} {self.requests}",
            "# TYPE backstay_errors_total counter",
            f'backstay_errors_total{{{WRITTEN},kind="prediction"}} {self.errors}',
            f'backstay_errors_total{{{WRITTEN},kind="overloaded"}} 1',
            "# TYPE backstay_request_duration_seconds histogram",
            f'backstay_request_duration_seconds_bucket{{{WRITTEN},le="0.1"}} {self.requests - self.slow}',
            f'backstay_request_duration_seconds_bucket{{{WRITTEN},le="+Inf"}} {self.requests}',
            f"backstay_request_duration_seconds_count{{{WRITTEN}}} {self.requests}",
            f"backstay_request_duration_seconds_sum{{{WRITTEN}}} 1",
        ]
        return "\n".join([*lines, ""]).encode()


@dataclass(frozen=True)
class Mad:
    """A model server whose counters are no counts."""

    def text(self) -> bytes:
        other = WRITTEN.replace(PLACE.pod, "other")
        lines = [
            "# TYPE backstay_requests_total counter",
            f"backstay_requests_total{{{WRITTEN}}} 100",
            f"backstay_requests_total{{{other}}} -100",
            "# TYPE backstay_errors_total counter",
            f'backstay_errors_total{{{WRITTEN},kind="prediction"}} NaN',
            f'backstay_errors_total{{{WRITTEN},kind="overloaded"}} 1',
            f"backstay_errors_total{{{other}}} +Inf",
            "# TYPE backstay_request_duration_seconds histogram",
            f'backstay_request_duration_seconds_bucket{{{WRITTEN},le="0.1"}} NaN',
            f'backstay_request_duration_seconds_bucket{{{WRITTEN},le="+Inf"}} 100',
            f"backstay_request_duration_seconds_sum{{{WRITTEN}}} NaN",
            f"backstay_request_duration_seconds_count{{{WRITTEN}}} 100",
        ]
        return "\n".join([*lines, ""]).encode()


@dataclass(frozen=True)
class Neighbours:
    """Pods of several revisions, of which some are in the way where two series are brought together by pod."""

    twice: frozenset[str]

    def text(self) -> bytes:
        lines = ["# TYPE backstay_requests_total counter", "# TYPE zone gauge"]
        for number in range(20):
            labels = WRITTEN.replace("aaa", f"r{number:02}")
            lines.append(f"backstay_requests_total{{{labels}}} {number}")
            zones = ("a", "b") if f"r{number:02}" in self.twice else ("a",)
            lines += [f'zone{{{labels},zone="{zone}"}} 1' for zone in zones]
        return "\n".join([*lines, ""]).encode()


@contextmanager
def _serving(exporter: Exporter | Past | Recorded | Mad | Neighbours) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            native = self.path == "/native" and isinstance(exporter, Exporter)
            kind = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            waits = exporter.waits if isinstance(exporter, Exporter) else {}
            body = _native(waits) if native else exporter.text()
            self.send_response(200)
            self.send_header("Content-Type", kind if native else "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[Prometheus]:
    """Start a Prometheus that two jobs let scrape the same pod, as happens with a PodMonitor beside an annotation."""
    with _serving(Exporter(requests=100, errors=4, slow=10, waits={-4: 5, -2: 3})) as port:
        job: dict[str, Any] = {"honor_labels": True, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
        native = {"job_name": "native", "metrics_path": "/native", "scrape_protocols": ["PrometheusProto"]}
        config = {
            "global": {"scrape_interval": "200ms"},
            "scrape_configs": [
                {**job, "job_name": "pods"},
                {**job, "job_name": "podmonitor"},
                {**job, **native, "scrape_native_histograms": True},
            ],
        }
        with _started(tmp_path, config) as found:
            yield found


@contextmanager
def _started(
    folder: Path, config: dict[str, Any], asked: Callable[[str], None] = lambda _: None
) -> Iterator[Prometheus]:
    program = binaries(["prometheus"], Console(quiet=True))["prometheus"]
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{_free_port()}"
    arguments = [f"--config.file={folder / 'prometheus.yaml'}", f"--storage.tsdb.path={folder / 'data'}"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [program, *arguments, f"--web.listen-address={address}"], stdout=log, stderr=subprocess.STDOUT
        )
        try:
            for attempt in eventually():
                with attempt:
                    assert httpx.get(f"http://{address}/-/ready", trust_env=False).is_success
            yield Prometheus(f"http://{address}", asked=asked)
        finally:
            process.terminate()
            process.wait(timeout=30)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def eventually() -> Retrying:
    return Retrying(
        stop=stop_after_delay(30),
        wait=wait_fixed(0.2),
        retry=retry_if_exception_type((AssertionError, httpx.HTTPError)),
        reraise=True,
    )


def test_every_signal_is_read_once_for_each_pod(prometheus: Prometheus) -> None:
    read = sources(ANALYSIS)
    wait, latency = read["wait"], read["latency"]
    assert isinstance(wait, Buckets)
    assert isinstance(latency, Buckets)
    (events,) = {template for template in templates(ANALYSIS) if "errors_total" in template}
    for attempt in eventually():
        with attempt:
            reading = prometheus.read(templates(ANALYSIS), ["aaa"], [time.time()])[0]
            assert reading.of(REQUESTS, KEY) == {PLACE: 100}
            # Of two jobs' copies one counts, and of the kinds of errors all do.
            assert reading.of(events, KEY) == {PLACE: 5}
            slow = reading.of(latency.histogram, KEY)[PLACE]
            assert isinstance(slow, Histogram)
            assert (slow.uppers[:-1], slow.counts) == ((0.1,), (90, 10))
            assert PLACE in reading.of(wait.histogram, KEY)
    waited = reading.of(wait.histogram, KEY)[PLACE]
    assert isinstance(waited, Histogram)
    assert waited.native
    edges = edges_of([waited])
    assert edges[0] == pytest.approx(2**-2)
    fitted = waited.into(edges)
    assert fitted is not None
    assert fitted[:3].tolist() == [5, 0, 3]
    assert list(reading.problems) == ["sum by (("]
    assert "answers with an error" in reading.problem("sum by ((", frozenset({"aaa"}))


def test_what_is_no_count_is_left_out_and_told_by_its_pod(tmp_path: Path) -> None:
    read, other = sources(ANALYSIS), Place(Backend("aaa"), "other")
    errors, latency = read["errors"], read["latency"]
    assert isinstance(errors, CounterPair)
    assert isinstance(latency, Buckets)
    with _serving(Mad()) as port:
        job = {"job_name": "pods", "honor_labels": True, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
        config = {"global": {"scrape_interval": "200ms"}, "scrape_configs": [job]}
        with _started(tmp_path, config) as prometheus:
            for attempt in eventually():
                with attempt:
                    now = time.time()
                    ticks = [now - 0.5, now]
                    (alone,) = prometheus.read(templates(ANALYSIS), ["aaa"], [now])
                    *_, last = prometheus.read(templates(ANALYSIS), ["aaa"], ticks)
                    for reading in (alone, last):
                        assert reading.of(REQUESTS, KEY) == {PLACE: 100}
                        assert reading.broken_of(REQUESTS, KEY) == {other}
                        assert reading.of(errors.events, KEY) == {}
                        assert reading.broken_of(errors.events, KEY) == {PLACE, other}
                        assert reading.of(latency.histogram, KEY) == {}
                        assert reading.broken_of(latency.histogram, KEY) == {PLACE}


def test_revisions_that_prometheus_cannot_work_out_are_no_others_trouble(tmp_path: Path) -> None:
    twice, revisions = frozenset({"r03", "r11"}), [f"r{number:02}" for number in range(20)]
    template = f"backstay_requests_total{SELECTOR} * on (pod) group_left () zone{SELECTOR}"
    outcomes: list[str] = []
    with _serving(Neighbours(twice)) as port:
        job = {"job_name": "pods", "honor_labels": True, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
        config = {"global": {"scrape_interval": "200ms"}, "scrape_configs": [job]}
        with _started(tmp_path, config, outcomes.append) as prometheus:
            for attempt in eventually():
                with attempt:
                    assert len(prometheus.read([REQUESTS], revisions, [time.time()])[0].of(REQUESTS, KEY)) == 20
            outcomes.clear()
            for most in (20, 3):
                (reading,) = prometheus.read([template], revisions, [time.time()])
                read = {place.backend.revision for place in reading.of(template, KEY)}
                assert read == set(revisions) - twice
                assert {one for one in revisions if reading.problem(template, frozenset({one}))} == twice
                assert len(outcomes) <= most
                outcomes.clear()


def test_many_ticks_at_once_are_read_as_each_alone(prometheus: Prometheus) -> None:
    begun = time.time()
    for attempt in eventually():
        with attempt:
            assert prometheus.read([REQUESTS], ["aaa"], [time.time()])[0].of(REQUESTS, KEY)
            assert time.time() > begun + 2
    # From before there was anything.
    now = round(time.time(), 1)
    ticks = [now - step / 2 for step in range(30, -1, -1)]
    together = prometheus.read(templates(ANALYSIS), ["aaa"], ticks)
    assert together == [prometheus.read(templates(ANALYSIS), ["aaa"], [tick])[0] for tick in ticks]
    assert together[0] != together[-1]


def test_a_revision_that_nobody_asked_for_is_not_read(prometheus: Prometheus) -> None:
    for attempt in eventually():
        with attempt:
            assert prometheus.read([REQUESTS], ["aaa"], [time.time()])[0].of(REQUESTS, KEY)
    assert prometheus.read([REQUESTS], ["bbb"], [time.time()])[0].values == {REQUESTS: {}}


async def test_clusters_of_errors_are_learnt_from_what_prometheus_has_kept(tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    end = math.floor(time.time() / 60) * 60.0
    times = tuple(end - 2.0 * back for back in range(60, -1, -1))
    requests = random.poisson(100, (len(times), 2)).astype(float)
    errors = np.asarray(4.0 * random.binomial(requests.astype(int), 0.02), dtype=np.float64)
    past = Past(times, requests, errors)
    job = {"job_name": "past", "honor_labels": True, "scrape_interval": "1s"}
    analysis = Analysis(2.0, 0.05, (Signal("errors", Comparison()),), dependence=Dependence(history=120.0))
    trial = Trial(
        rollout="2-1",
        stable="aaa",
        canary="bbb",
        step=0,
        opening=False,
        changed_at=0.0,
        warm_until=0.0,
        baseline=False,
        comparable=True,
        pods={Backend("bbb"): 1},
        began=end + 1,
    )
    with (
        _serving(past) as port,
        _started(
            tmp_path, {"scrape_configs": [{**job, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}]}
        ) as prometheus,
    ):
        for attempt in eventually():
            with attempt:
                assert len(prometheus.read([REQUESTS], ["aaa"], [end])[0].of(REQUESTS, KEY)) == 2
        loop = EvidenceLoop(prometheus, lambda *_, **__: None, time.time)
        loop.watch(KEY, Interest(analysis, frozenset({"aaa"}), trial, Memory()))
        await loop._learn_of(list(loop._followed.values()))  # noqa: SLF001 - what the loop does for new rollouts
        # The first only starts the account.
        for tick in (end + 2, end + 4):
            await loop._tick(2.0, tick)  # noqa: SLF001 - what the loop does when a tick is due
    evidence = loop.evidence(KEY)
    assert evidence is not None
    phi, sigma = evidence.accumulators["learnt"]["errors"]
    assert phi == pytest.approx(dispersion(past.errors[1:], past.requests[1:]))
    assert phi > 2.5
    assert sigma == 0.0


@pytest.mark.parametrize(
    ("profile", "requests", "errors", "durations"),
    [
        (Profile.MLSERVER, 10, 2, (0.005, 10)),
        (Profile.SELDON, 18, 1, (0.005, 2)),
        (Profile.TRITON, 100, 6, None),
    ],
)
def test_other_servers_are_read_by_their_own_names(
    tmp_path: Path, profile: Profile, requests: int, errors: int, durations: tuple[float, int] | None
) -> None:
    told = Recorded(Path(__file__).parent / "expositions" / f"{profile}.txt")
    metrics = METRICS[profile]
    failed = metrics.events[Events.ERRORS]
    assert bool(metrics.duration) == (durations is not None)
    wanted = {metrics.requests, metrics.present, failed.events, failed.total} | ({metrics.duration} - {""})
    job: dict[str, Any] = {"scrape_interval": "200ms"}
    with _serving(told) as port:
        targets = [{"targets": [f"127.0.0.1:{port}"], "labels": LABELS}]
        twice = [{**job, "job_name": name, "static_configs": targets} for name in ("pods", "podmonitor")]
        with _started(tmp_path, {"scrape_configs": twice}) as prometheus:
            for attempt in eventually():
                with attempt:
                    reading = prometheus.read(wanted, ["aaa"], [time.time()])[0]
                    assert reading.of(metrics.requests, KEY) == {PLACE: requests}
    assert reading.problems == {}
    assert reading.of(failed.total, KEY) == {PLACE: requests}
    assert reading.of(failed.events, KEY) == {PLACE: errors}
    assert reading.of(metrics.present, KEY) == {PLACE: 1}
    if durations is not None:
        histogram = reading.of(metrics.duration, KEY)[PLACE]
        assert isinstance(histogram, Histogram)
        assert (histogram.uppers[0], histogram.counts[0], histogram.total) == (*durations, requests)


def test_a_server_that_counts_nothing_is_read_by_what_each_envoy_saw_of_its_pods(tmp_path: Path) -> None:
    told, metrics = Recorded(Path(__file__).parent / "expositions" / "envoy.txt"), METRICS[Profile.ENVOY]
    failed = metrics.events[Events.ERRORS]
    pods = {"127.97.250.1:8080": LABELS, "127.97.250.2:8080": {**LABELS, "revision": "bbb", "pod": "fraud-bbb-1"}}
    unread = [{"targets": [address], "labels": labels} for address, labels in pods.items()]
    with _serving(told) as one, _serving(told) as other:
        envoys = [f"127.0.0.1:{port}" for port in (one, other)]
        gateway = [{"targets": envoys, "labels": {"namespace": "gateways", "pod": "envoy"}}]
        jobs = {"pods": unread, "gateway": gateway, "gateway-again": gateway}
        configuration = [
            {"job_name": name, "scrape_interval": "200ms", "scrape_timeout": "200ms", "static_configs": targets}
            for name, targets in jobs.items()
        ]
        with _started(tmp_path, {"scrape_configs": configuration}) as prometheus:
            for attempt in eventually():
                with attempt:
                    wanted = {metrics.requests, metrics.present, failed.events}
                    reading = prometheus.read(wanted, ["aaa", "bbb"], [time.time()])[0]
                    assert len(reading.of(failed.events, KEY)) == 4
                    assert len(reading.of(metrics.present, KEY)) == 2
    assert reading.problems == {}
    places = [Place(Backend(of), f"fraud-{of}-1 via {envoy}") for of in ("aaa", "bbb") for envoy in envoys]
    assert reading.of(metrics.requests, KEY) == dict(zip(places, (50, 50, 57, 57), strict=True))
    assert reading.of(failed.events, KEY) == dict(zip(places, (0, 0, 10, 10), strict=True))
    assert reading.of(metrics.present, KEY) == {PLACE: 1, Place(Backend("bbb"), "fraud-bbb-1"): 1}

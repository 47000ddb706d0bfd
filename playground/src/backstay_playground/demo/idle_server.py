"""A model server that serves nobody: ready at once, with the counters that Backstay reads, all at zero.

For tests with many models at once, in which nobody asks for a prediction. It needs nothing but Python, so that a
hundred of them fit on one machine.
"""

import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_METRICS = """\
# TYPE backstay_requests_total counter
backstay_requests_total{{model="{model}",version="{version}"}} 0
# TYPE backstay_errors_total counter
backstay_errors_total{{model="{model}",version="{version}",kind="internal"}} 0
"""


class Handler(BaseHTTPRequestHandler):
    """Answers every GET with the metrics."""

    protocol_version = "HTTP/1.1"
    # Head and body in one packet.
    wbufsize = -1

    def do_GET(self) -> None:
        """Answer."""
        values = {"model": os.environ["MODEL_NAME"], "version": os.environ["MODEL_VERSION"]}
        text = _METRICS.format(**values).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Stay silent: probes and scrapes come every second."""


if __name__ == "__main__":
    ThreadingHTTPServer((os.environ["POD_IP"], int(os.environ["PORT"])), Handler).serve_forever()

"""What the tests run in pods: a server that tells how the world looks from inside; it needs nothing but Python.

GET /            the pod's name
GET /ready       200 once the file $READY_FILE exists, or at once when that is not set
GET /file/PATH   a file
GET /env/NAME    a variable
GET /hosts/NAME  the address of a name
GET /api         what the API server calls the pod's service account, asked with the mounted token
"""

import json
import os
import signal
import socket
import ssl
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def who_am_i() -> str:
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    url = f"https://{os.environ['KUBERNETES_SERVICE_HOST']}:{os.environ['KUBERNETES_SERVICE_PORT']}"
    request = urllib.request.Request(  # noqa: S310 - https, as above
        f"{url}/apis/authentication.k8s.io/v1/selfsubjectreviews",
        data=json.dumps(review).encode(),
        headers={"Authorization": f"Bearer {(ACCOUNT / 'token').read_text()}", "Content-Type": "application/json"},
    )
    context = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    with urllib.request.urlopen(request, context=context) as answer:  # noqa: S310 - https, as above
        return str(json.load(answer)["status"]["userInfo"]["username"])


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Without this, head and body of an answer go in two packets, and the second waits for an acknowledgement.
    wbufsize = -1

    def do_GET(self) -> None:
        status, text = self.answer()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def answer(self) -> tuple[int, bytes]:
        try:
            return 200, self.look_up()
        except (OSError, KeyError) as error:
            return 404, repr(error).encode()

    def look_up(self) -> bytes:
        match self.path.strip("/").split("/", 1):
            case ["ready"]:
                ready = os.environ.get("READY_FILE", "")
                return Path(ready).read_bytes() if ready else b""
            case ["file", path]:
                return Path("/", path).read_bytes()
            case ["env", name]:
                return os.environ[name].encode()
            case ["hosts", name]:
                return socket.gethostbyname(name).encode()
            case ["api"]:
                return who_am_i().encode()
        return os.environ["POD_NAME"].encode()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class named it
        """Keep the log for what the tests want to read there."""


class Server(ThreadingHTTPServer):
    request_queue_size = 128


def main() -> None:
    server = Server((os.environ["POD_IP"], 8080), Handler)
    # shutdown() waits for the loop, which the signal handler would block.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print("serving", flush=True)  # noqa: T201 - the log is what the tests read
    server.serve_forever()
    print("stopped", flush=True)  # noqa: T201 - the log is what the tests read


if __name__ == "__main__":
    main()

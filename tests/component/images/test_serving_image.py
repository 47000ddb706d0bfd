"""The model server's image serves a model, with the pod's settings and one folder to write to."""

import json
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from dockerfile import ROOT
from image import Image, ended, free_port

pytestmark = pytest.mark.component

ImageOf = Callable[[str], Image]
BASE = ROOT / "applications" / "fraud-detector" / "base" / "modeldeployment.yaml"
# In the image itself, so that it is the image's MLflow and scikit-learn which are used.
SAVE = """\
import sys, warnings
warnings.simplefilter("ignore")
import mlflow.sklearn, numpy, pandas
from mlflow.models import infer_signature
from sklearn.linear_model import LogisticRegression
rows = pandas.DataFrame({"amount": [1.0, 2.0, 8.0, 9.0], "hour": [3.0, 1.0, 2.0, 4.0]})
labels = numpy.array([0, 0, 1, 1])
mlflow.sklearn.save_model(
    LogisticRegression().fit(rows, labels),
    sys.argv[1],
    signature=infer_signature(rows, labels),
    input_example=rows.head(2),
    pip_requirements=["scikit-learn"],
    serialization_format="skops",
)
"""
PATIENCE = 120.0


@pytest.fixture(scope="module")
def image(image_of: ImageOf) -> Image:
    return image_of("serving/Dockerfile")


@pytest.fixture(scope="module")
def container() -> dict[str, Any]:
    """Return the model server's container as the example application has it."""
    pod = yaml.safe_load(BASE.read_text())["spec"]["serving"]["template"]["spec"]
    found: dict[str, Any] = pod["containers"][0]
    return found


@contextmanager
def started(argv: list[str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.communicate()


def wait_for(url: str, process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        assert process.poll() is None, process.communicate()[0]
        try:
            if httpx.get(url, trust_env=False).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        threading.Event().wait(0.05)
    process.kill()
    pytest.fail(f"{url} did not answer 200 within {PATIENCE:g} s: {process.communicate()[0]}")


def test_it_serves_a_model_and_writes_to_its_one_volume_alone(
    image: Image, container: dict[str, Any], tmp_path: Path
) -> None:
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert [port["containerPort"] for port in container["ports"]] == image.stage.ports
    volumes = {mount["mountPath"]: tmp_path / mount["name"] for mount in container["volumeMounts"]}
    for place in volumes.values():
        place.mkdir()
    saved = tmp_path / "models" / "saved"
    done = ended(image.command("python", "-c", SAVE, "/models/saved", volumes=volumes))
    assert done.returncode == 0, done.stderr
    port, before = free_port(), image.files()
    settings = {each["name"]: each["value"] for each in container["env"]}
    settings |= {"MODEL_URI": "/saved", "MODEL_NAME": "fraud-detector", "MODEL_VERSION": "7", "MODEL_REVISION": "1"}
    settings |= {"POD_IP": "127.0.0.1", "PORT": str(port), "DRAIN_SECONDS": "0"}
    argv = image.command(settings=settings, secrets={"/saved": saved}, volumes=volumes)
    with started(argv) as server:
        wait_for(f"http://127.0.0.1:{port}/readyz", server)
        asked = {"dataframe_split": {"columns": ["amount", "hour"], "data": [[9.0, 2.0]]}}
        answer = httpx.post(f"http://127.0.0.1:{port}/invocations", json=asked, trust_env=False)
        assert (answer.status_code, answer.json()["predictions"]) == (200, [1]), answer.text
        server.send_signal(signal.SIGTERM)
        output, _ = server.communicate(timeout=60)
    assert server.returncode == 0, output
    assert "Traceback" not in output
    assert image.files() == before


def test_without_a_model_it_says_what_to_set(image: Image, tmp_path: Path) -> None:
    done = ended(image.command(volumes={"/models": tmp_path}))
    assert (done.returncode, "Set MODEL_URI, or MODEL_NAME and MODEL_VERSION" in done.stderr) == (2, True), done.stderr
    assert json.dumps(done.stdout) == '""'

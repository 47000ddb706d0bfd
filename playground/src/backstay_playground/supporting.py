"""What models and their delivery lean on: Redis, Gitea, MLflow and Prometheus."""

import getpass
import os
import secrets
import sys
from string import Template

from backstay_playground.checks import Http, Redis
from backstay_playground.component import Component, Setting
from backstay_playground.layout import write_private
from backstay_playground.manifests import read
from backstay_playground.tools import module_directory


def components(setting: Setting) -> list[Component]:
    """Return the supporting components."""
    return [_redis(setting), _gitea(setting), _mlflow(setting), _prometheus(setting)]


def _redis(setting: Setting) -> Component:
    port = setting.ports["redis"]
    return Component(
        name="redis",
        purpose="Argo CD's cache",
        argv=(str(setting.binaries["redis"]), f"127.0.0.1:{port}"),
        where=f"127.0.0.1:{port}",
        ready=Redis(port),
        tools=("redis",),
        ports=("redis",),
    )


def gitea_config(setting: Setting) -> str:
    """Return the path of Gitea's configuration file, as its commands take it."""
    return str(setting.layout.data("gitea") / "app.ini")


def _gitea(setting: Setting) -> Component:
    folder, url = setting.layout.data("gitea"), setting.url("gitea")

    def prepare() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / "app.ini"
        # Gitea adds secrets of its own to the file, and the ones it has must stay.
        if not config.exists():
            values = {
                "user": getpass.getuser(),
                "as_root": str(os.geteuid() == 0).lower(),
                "folder": folder,
                "port": setting.ports["gitea"],
                "sources": module_directory("gitea"),
                "secret": secrets.token_urlsafe(48),
            }
            write_private(config, Template(read("gitea.ini")).substitute(values))

    return Component(
        name="gitea",
        purpose="Git repositories and pull requests",
        argv=(str(setting.binaries["gitea"]), "web", f"--config={gitea_config(setting)}"),
        where=url,
        ready=Http(f"{url}/api/healthz"),
        env={"GITEA_WORK_DIR": str(folder)},
        tools=("gitea",),
        ports=("gitea",),
        prepare=prepare,
    )


def _mlflow(setting: Setting) -> Component:
    folder, port = setting.layout.data("mlflow"), setting.ports["mlflow"]
    hosts = [f"{name}:5000" for name in ("mlflow.mlops", "mlflow.mlops.svc", "mlflow.mlops.svc.cluster.local")]
    return Component(
        name="mlflow",
        purpose="the model registry",
        argv=(
            *(sys.executable, "-m", "mlflow", "server"),
            "--host=127.0.0.1",
            f"--port={port}",
            "--workers=1",
            f"--backend-store-uri=sqlite:///{folder}/mlflow.db",
            f"--artifacts-destination={folder}/artifacts",
            "--serve-artifacts",
            # Pods call it by its Service's name, which MLflow refuses unless told.
            f"--allowed-hosts={','.join([*hosts, 'localhost:*', '127.0.0.1:*'])}",
        ),
        where=setting.url("mlflow"),
        ready=Http(f"{setting.url('mlflow')}/health"),
        # Its job runner is five more Python processes that nothing here uses.
        env={"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"},
        ports=("mlflow",),
        prepare=lambda: (folder / "artifacts").mkdir(parents=True, exist_ok=True),
        deadline=180,
    )


def prometheus_config(kubeconfig: str) -> str:
    """Return Prometheus' configuration, which finds pods through the API server that `kubeconfig` names."""
    return Template(read("prometheus.yaml")).safe_substitute(kubeconfig=kubeconfig)


def _prometheus(setting: Setting) -> Component:
    folder, url = setting.layout.data("prometheus"), setting.url("prometheus")
    config = folder / "prometheus.yaml"

    def prepare() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        config.write_text(prometheus_config(str(folder / "kubeconfig")), encoding="utf-8")

    return Component(
        name="prometheus",
        purpose="scrapes pods every 500 ms",
        argv=(
            str(setting.binaries["prometheus"]),
            f"--config.file={config}",
            f"--web.listen-address=127.0.0.1:{setting.ports['prometheus']}",
            f"--storage.tsdb.path={folder}/data",
            "--storage.tsdb.retention.time=1d",
            "--storage.tsdb.retention.size=512MB",
            "--log.level=warn",
        ),
        where=url,
        ready=Http(f"{url}/-/ready"),
        after=("prometheus-account",),
        tools=("prometheus",),
        ports=("prometheus",),
        prepare=prepare,
    )

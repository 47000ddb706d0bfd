"""kubectl against one named cluster; the environment's KUBECONFIG is never looked at."""

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tenacity import Retrying, stop_after_delay, wait_fixed

from backstay_playground.errors import PlaygroundError

FIELD_MANAGER = "backstay-playground"


@dataclass(frozen=True)
class Kubectl:
    """The program, the kubeconfig and, where it is not the kubeconfig's current one, the context."""

    binary: Path
    kubeconfig: Path
    context: str = ""

    def argv(self, *args: str) -> list[str]:
        """Return the whole command for kubectl's `args`."""
        context = [f"--context={self.context}"] if self.context else []
        return [str(self.binary), f"--kubeconfig={self.kubeconfig}", *context, *args]

    def environment(self) -> dict[str, str]:
        """Return this process's environment without what could name another cluster.

        The playground is reached without a proxy, and what kubectl caches about it goes when it goes.
        """
        kept = {name: value for name, value in os.environ.items() if name != "KUBECONFIG"}
        if self.context:
            return kept
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
            kept.pop(name, None)
        return {**kept, "KUBECACHEDIR": str(self.kubeconfig.parent / "data" / "kubectl")}

    def __call__(self, *args: str, stdin: str = "") -> str:
        """Run kubectl and return what it prints.

        Raises:
            PlaygroundError: it fails; the text holds its message.
        """
        answer = subprocess.run(
            self.argv(*args), input=stdin, env=self.environment(), capture_output=True, text=True, check=False
        )
        if answer.returncode != 0:
            raise PlaygroundError(f"kubectl {' '.join(args[:4])} failed: {answer.stderr.strip()[-1500:]}")
        return answer.stdout

    def apply(self, manifests: str) -> None:
        """Apply the text of manifests on the server side; fields others took over are taken back."""
        self("apply", *_APPLY, "-f", "-", stdin=manifests)

    def apply_files(self, paths: Sequence[Path]) -> None:
        """Apply files, or folders of files, of manifests."""
        self("apply", *_APPLY, *[f"--filename={path}" for path in paths])

    def wait_for_definitions(self, *names: str) -> None:
        """Wait until the API server serves the kinds of these CustomResourceDefinitions, or of all that there are.

        Raises:
            PlaygroundError: it does not in time.
        """
        which = [f"crd/{name}" for name in names] or ["crd", "--all"]
        # kubectl gives up on a definition that has no conditions at all yet.
        for attempt in Retrying(stop=stop_after_delay(30), wait=wait_fixed(0.2), reraise=True):
            with attempt:
                self("wait", "--for=condition=Established", "--timeout=30s", *which)


_APPLY = ("--server-side", "--force-conflicts", f"--field-manager={FIELD_MANAGER}")

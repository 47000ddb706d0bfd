"""The life of a pod on this node: its containers run, its status is reported, and in the end it is removed for good."""

import asyncio
import logging
import shutil
import time
from contextlib import suppress

from backstay_playground.node import status
from backstay_playground.node.api import STRATEGIC_MERGE, UNREACHABLE, ApiError
from backstay_playground.node.pod import Pod
from backstay_playground.node.states import Running

logger = logging.getLogger(__name__)

_RETRY_SECONDS = 0.5
_NOT_FOUND = 404
_CONFLICT = 409
_LONGEST_WAIT = 3600


class Life:
    """Runs one pod.

    Args:
        pod: The pod.
    """

    def __init__(self, pod: Pod) -> None:
        self._pod = pod

    async def run(self) -> None:
        """Live until the object is gone. Cancelling leaves the processes running."""
        pod = self._pod
        reporting = asyncio.create_task(self._report())
        living = asyncio.create_task(self._live())
        living.add_done_callback(self._note_failure)
        try:
            await pod.stopping.wait()
            living.cancel()
            await asyncio.wait([living])
            pod.news.set()
            await self.stop()
        finally:
            living.cancel()
            reporting.cancel()
        await self._delete()
        pod.node.addresses.release(pod.address)
        shutil.rmtree(pod.folder, ignore_errors=True)

    def _note_failure(self, living: asyncio.Task[None]) -> None:
        pod = self._pod
        if not living.cancelled() and (error := living.exception()):
            logger.error("%s/%s: %s", pod.namespace, pod.name, error, exc_info=error)

    async def stop(self) -> None:
        """End all containers with grace, or at once when the object is gone."""
        pod = self._pod
        stopping = [asyncio.create_task(each.stop(pod.grace)) for each in pod.everyone]
        hurry = asyncio.create_task(self._kill_when_gone())
        try:
            await asyncio.gather(*stopping)
        finally:
            hurry.cancel()

    async def _kill_when_gone(self) -> None:
        pod = self._pod
        await pod.gone.wait()
        for container in pod.everyone:
            container.kill()

    async def _live(self) -> None:
        pod = self._pod
        pod.news.set()
        pod.home.mkdir(parents=True, exist_ok=True)
        if any(isinstance(each.state, Running) for each in pod.everyone):
            # Adopted containers have their volumes and want to be watched at once.
            pod.volumes_stale.set()
        else:
            await pod.sync_volumes()
        keeping = asyncio.create_task(self._keep_volumes())
        try:
            for init in pod.inits:
                if init.spec.get("restartPolicy") == "Always":
                    init.hold_up("the process node runs no sidecars (init containers with restartPolicy Always)")
                    return
                await init.run()
                if not status.initialized([init]):
                    return
            async with asyncio.TaskGroup() as group:
                for container in pod.containers:
                    group.create_task(container.run())
        finally:
            keeping.cancel()

    async def _keep_volumes(self) -> None:
        pod = self._pod
        while True:
            delay = pod.renew_at - time.time()
            with suppress(TimeoutError):
                async with asyncio.timeout(min(max(delay, _RETRY_SECONDS), _LONGEST_WAIT)):
                    await pod.volumes_stale.wait()
            pod.volumes_stale.clear()
            await pod.sync_volumes()

    async def _report(self) -> None:
        pod = self._pod
        while True:
            await pod.news.wait()
            pod.news.clear()
            try:
                await self._report_once()
            except ApiError as error:
                if error.status == _NOT_FOUND:
                    continue
                logger.warning("%s/%s: cannot report: %s", pod.namespace, pod.name, error)
                pod.news.set()
                await asyncio.sleep(_RETRY_SECONDS)
            except UNREACHABLE:
                pod.news.set()
                await asyncio.sleep(_RETRY_SECONDS)

    async def _report_once(self) -> None:
        pod = self._pod
        wanted = pod.wanted_status()
        if status.is_status_reported(wanted, pod.object.get("status", {})):
            return
        # The uid keeps a late report away from a new pod of the same name.
        body = {"metadata": {"uid": pod.uid}, "status": wanted}
        answer = await pod.node.api.patch(f"{pod.path}/status", body, content_type=STRATEGIC_MERGE)
        if int(answer["metadata"]["resourceVersion"]) > int(pod.object["metadata"]["resourceVersion"]):
            pod.object = answer

    async def _delete(self) -> None:
        """Remove the object for good: nothing of it runs any more."""
        pod = self._pod
        while not pod.gone.is_set():
            body = {"gracePeriodSeconds": 0, "preconditions": {"uid": pod.uid}}
            try:
                with suppress(ApiError):
                    await self._report_once()
                await pod.node.api.request("DELETE", pod.path, body=body)
            except ApiError as error:
                if error.status in {_NOT_FOUND, _CONFLICT}:
                    return
                logger.warning("%s/%s: cannot delete: %s", pod.namespace, pod.name, error)
            except UNREACHABLE:
                pass
            else:
                return
            await asyncio.sleep(_RETRY_SECONDS)

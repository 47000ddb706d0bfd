"""Bringing the store in line with the API server by full listings."""

from backstay.adapters.kubernetes.client import MODEL_DEPLOYMENT, Cluster, Kind
from backstay.adapters.kubernetes.manifests import SELECTOR
from backstay.controller.runtime.store import Store


async def list_into(store: Store, cluster: Cluster, kind: Kind) -> int:
    """Read all of our objects of one kind, page by page so that they are never all in memory; return how many pages.

    What is made or changed meanwhile is newer than the listing, and stays as it was seen.

    Raises:
        ApiError: the API server does not answer; what was read until then has been taken in.
    """
    seen, version, pages = set[str](), 0, 0
    async for page in cluster.pages(kind, labels="" if kind is MODEL_DEPLOYMENT else SELECTOR):
        store.take(kind, page.items)
        seen.update(body["metadata"]["uid"] for body in page.items)
        version = page.version
        pages += 1
    store.keep_only(kind, seen, version)
    return pages

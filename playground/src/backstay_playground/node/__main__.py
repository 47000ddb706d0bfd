"""The command `python -m backstay_playground.node`."""

import asyncio
import logging
import os
import signal
from ipaddress import IPv4Network
from pathlib import Path
from typing import Annotated

import aiohttp
import typer
import uvloop
from kubernetes.aio.config import ConfigException

from backstay_playground.node.actions import Means
from backstay_playground.node.agent import Agent, Settings
from backstay_playground.node.api import Api


async def _run(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    api = await Api.open(settings.kubeconfig)
    # A probe opens its own connection and trusts any certificate, as a kubelet's does.
    connector = aiohttp.TCPConnector(force_close=True, limit=0, ssl=False)
    try:
        async with aiohttp.ClientSession(connector=connector, trust_env=False) as http:
            means = Means(http, asyncio.Semaphore(2 * (os.cpu_count() or 1)))
            await Agent(settings, api, means).run(stop)
    finally:
        await api.close()


def _network(text: str) -> IPv4Network:
    try:
        network = IPv4Network(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text} is not an IPv4 network: {error}") from error
    if not network.is_loopback:
        raise typer.BadParameter(f"{text} is not inside 127.0.0.0/8")
    return network


def main(  # noqa: PLR0913 - one parameter an option
    *,
    kubeconfig: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="The cluster to join.")],
    state: Annotated[Path, typer.Option(help="The folder for volumes and process records.")],
    logs: Annotated[Path, typer.Option(help="The folder for the containers' output.")],
    images: Annotated[Path, typer.Option(help="JSON: image name -> list of command words.")],
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port of /healthz and /pods on 127.0.0.1.")],
    name: Annotated[str, typer.Option(help="The Node object's name.")] = "playground",
    pod_network: Annotated[str, typer.Option(help="The pods' addresses.")] = "127.97.0.0/16",
    warm: Annotated[list[str], typer.Option(help="A Python library to import once for all pods; repeatable.")] = [],  # noqa: B006 - typer copies it
    stop_pods_on_exit: Annotated[bool, typer.Option(help="End all pods on SIGTERM; else they stay.")] = False,
) -> None:
    """Run pods as local processes on loopback addresses."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # It holds the pods' Secrets and tokens.
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings = Settings(
        kubeconfig=kubeconfig,
        state=state.resolve(),
        logs=logs.resolve(),
        images=images.resolve(),
        port=port,
        name=name,
        pod_network=_network(pod_network),
        warm=warm,
        stop_pods_on_exit=stop_pods_on_exit,
    )
    try:
        uvloop.run(_run(settings))
    except (ConfigException, OSError) as error:
        typer.echo(f"The process node cannot run: {error}", err=True)
        raise typer.Exit(1) from error


if __name__ == "__main__":
    typer.run(main)

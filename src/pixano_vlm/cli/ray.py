"""`generate --ray`: its flags, and the model that they ask for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from pixano_vlm.catalog import create_model
from pixano_vlm.cli.help import PlainCommand
from pixano_vlm.errors import UsageError
from pixano_vlm.models.deployment import ModelDeploymentConfig
from pixano_vlm.models.vlm import VLMModel

__all__ = ["CommandWithRay", "GpusPerWorker", "Ray", "RayPool", "Workers", "choose_pool"]

LOCAL = "local"
PANEL = "Several GPUs or machines (pip install 'pixano-vlm\\[ray]')"

Ray = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="[ADDRESS]",
        help="Run the model in workers on Ray: alone on this machine, with an address (10.0.0.1:6379, or auto) on "
        "a running cluster.",
        rich_help_panel=PANEL,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="N",
        min=1,
        help="How many, each with a model. Default: 1.",
        rich_help_panel=PANEL,
    ),
]
GpusPerWorker = Annotated[
    float | None,
    typer.Option(
        "--gpus-per-worker",
        metavar="G",
        min=0,
        help="GPUs for each; a fraction shares one. Default: the model's config.",
        rich_help_panel=PANEL,
    ),
]


@dataclass(frozen=True, slots=True)
class RayPool:
    """What `--ray` asks for."""

    address: str | None
    """`None` is this machine."""
    workers: int
    gpus_per_worker: float | None

    def create(self, config: ModelDeploymentConfig) -> VLMModel:
        """The model of `config`, in workers; not loaded yet.

        Raises:
            ConfigError: When the model's class refuses its parameters.
            MissingPackageError: When Ray is not installed.
        """
        from pixano_vlm.engines.ray.model import with_ray

        return with_ray(
            config,
            create_model,
            address=self.address,
            workers=self.workers,
            gpus_per_worker=self.gpus_per_worker,
        )


def choose_pool(ray: str | None, workers: int | None, gpus_per_worker: float | None) -> RayPool | None:
    """The pool that the flags ask for; `None` without `--ray`.

    Raises:
        UsageError: When there are flags of a pool and no `--ray`.
    """
    if ray is not None:
        return RayPool(None if ray == LOCAL else ray, workers or 1, gpus_per_worker)
    for flag, value in (("--workers", workers), ("--gpus-per-worker", gpus_per_worker)):
        if value is not None:
            raise UsageError(f"{flag} is about workers on Ray.", hint="Give --ray, too.")
    return None


class CommandWithRay(PlainCommand):
    """A command whose `--ray` may stand without an address."""

    def parse_args(self, ctx: Any, args: Sequence[str]) -> list[str]:
        """Reads the arguments; Typer itself has no flag whose value may be left out."""
        whole: list[str] = []
        for index, arg in enumerate(args):
            whole.append(arg)
            if arg == "--ray" and not _is_address(args[index + 1 : index + 2]):
                whole.append(LOCAL)
        return super().parse_args(ctx, whole)


def _is_address(following: Sequence[str]) -> bool:
    return bool(following) and re.fullmatch(r"auto|local|[\w.\-\[\]:]+:\d+", following[0]) is not None

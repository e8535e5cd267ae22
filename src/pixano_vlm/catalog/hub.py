"""Asks once whether the Hugging Face hub can be reached, before its client is let loose on it.

That client retries each of a model's files for half a minute, so that without a network it takes minutes to say
so, or to come round to the copies that are on this machine all along.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

from pixano_vlm.catalog import resolve_path, weights_on_disk
from pixano_vlm.errors import ModelLoadError
from pixano_vlm.models.deployment import ModelDeploymentConfig
from pixano_vlm.models.registry import BUILT_IN_CLASSES

__all__ = ["check_hub"]

SECONDS = 5.0


def check_hub(config: ModelDeploymentConfig) -> None:
    """Sets the hub's client to offline when the hub is out of reach and the weights are here.

    Raises:
        ModelLoadError: When it is out of reach and they are not here.
    """
    here = weights_on_disk(config)
    if (
        config.model_class not in BUILT_IN_CLASSES
        or here is None
        or config.model_params.get("local_files_only")
    ):
        return
    path = config.model_params["path"]
    if Path(resolve_path(path)).expanduser().is_dir():
        return
    from huggingface_hub import constants

    # Behind a proxy, whether we reach the hub ourselves says nothing.
    if constants.HF_HUB_OFFLINE or getproxies():
        return
    address = urlsplit(constants.ENDPOINT)
    host, port = address.hostname or "", address.port or (80 if address.scheme == "http" else 443)
    try:
        socket.create_connection((host, port), timeout=SECONDS).close()
    except OSError as error:
        if not here:
            raise ModelLoadError(
                f"the weights of {path!r} are not on this machine, and {host} cannot be reached: "
                f"{error.strerror or error}.",
                hint="Fetch them once where there is a network, or name the local folder of a checkpoint.",
            ) from error
        os.environ["HF_HUB_OFFLINE"] = "1"
        # The client has read its environment by now.
        constants.HF_HUB_OFFLINE = True

"""`--base-url`: a model behind a server, without a config file. What is asked of it is in `engines/openai`."""

from __future__ import annotations

from typing import Annotated

import typer

from pixano_vlm.catalog import create_model
from pixano_vlm.errors import UsageError
from pixano_vlm.models.deployment import ModelDeploymentConfig

__all__ = ["ApiKeyEnv", "BaseUrl", "ServerModel", "choose_server"]

PANEL = "A model behind a server (pip install 'pixano-vlm\\[openai]')"

BaseUrl = Annotated[
    str | None,
    typer.Option(
        "--base-url",
        metavar="URL",
        help="Ask this server, which speaks OpenAI's chat completions, instead of loading a model: "
        "http://127.0.0.1:8000/v1.",
        rich_help_panel=PANEL,
    ),
]
ServerModel = Annotated[
    str | None,
    typer.Option(
        "--server-model",
        metavar="NAME",
        help="The model's name at the server. Default: --model, else the only one that the server lists.",
        rich_help_panel=PANEL,
    ),
]
ApiKeyEnv = Annotated[
    str | None,
    typer.Option(
        "--api-key-env",
        metavar="NAME",
        help="The environment variable that holds the server's key. Default: it wants none.",
        rich_help_panel=PANEL,
    ),
]


def choose_server(
    base_url: str | None,
    server_model: str | None,
    api_key_env: str | None,
    model: str | None,
    concurrency: int | None,
) -> ModelDeploymentConfig | None:
    """The deployment of a model behind the server that the flags name; None without `--base-url`.

    Where no flag has the model's name, the server is asked for it.

    Args:
        base_url: The server's address.
        server_model: The model's name there.
        api_key_env: The environment variable that holds the key.
        model: `--model`: how outputs call it, and its name at the server where `server_model` is not given.
        concurrency: `--max-batch-size`: most requests under way.

    Raises:
        UsageError: When a flag is about a server and none is named, or nothing names a model.
        ModelLoadError: When the server is not there, or lists several models.
    """
    if base_url is None:
        for flag, value in (("--server-model", server_model), ("--api-key-env", api_key_env)):
            if value is not None:
                raise UsageError(f"{flag} is about a server.", hint="Give --base-url, too.")
        if model is None:
            raise UsageError(
                "no model is named.",
                hint="Give --model NAME, or --base-url URL for one behind a server. `pixano-vlm list` shows the "
                "models; `--model shapes` is one that needs no download.",
            )
        return None
    asked = {
        "base_url": base_url,
        "model": server_model or model,
        "api_key_env": api_key_env,
        "concurrency": concurrency,
    }
    params = {name: value for name, value in asked.items() if value is not None}
    name = model or server_model
    served = ModelDeploymentConfig(name=name or base_url, model_class="OpenAIVLMModel", model_params=params)
    return served if name is not None else _named_by_server(served)


def _named_by_server(served: ModelDeploymentConfig) -> ModelDeploymentConfig:
    """The deployment under the name of the only model that its server lists."""
    asked = create_model(served)
    asked.load_model()
    name = str(asked.describe()["model"])
    asked.unload()
    return served.model_copy(update={"name": name, "model_params": {**served.model_params, "model": name}})

"""The parameters of a model behind a server. Knows no connection."""

from __future__ import annotations

from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

__all__ = ["OpenAIParams"]


class OpenAIParams(BaseModel):
    """Parameters of `OpenAIVLMModel`. The key itself is none of them: configs and outputs are shown around."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    base_url: str = Field(
        description="The server's address up to and with /v1, such as http://127.0.0.1:8000/v1."
    )
    model: str | None = Field(
        default=None, min_length=1, description="The model's name there; None: the only one that it lists."
    )
    check_model: bool = Field(
        default=True, description="Whether the server must list the model; some load others when asked."
    )
    api_key_env: str | None = Field(
        default=None,
        min_length=1,
        description="The environment variable that holds the key; None: the server wants none.",
    )
    identity: str | None = Field(
        default=None,
        description="What the server runs, such as a revision: stands for its address when a run is resumed.",
    )
    concurrency: int = Field(
        default=16,
        ge=1,
        le=4096,
        description="Most requests under way at a time; fewer while the server says that it is too many.",
    )
    tries: int = Field(default=6, ge=1, description="Most tries of one request that reach the server.")
    timeout: float = Field(default=300, gt=0, description="Seconds one try may take.")
    total_timeout: float = Field(
        default=1200, gt=0, description="Seconds one record may take in all, waits included."
    )
    connect_timeout: float = Field(default=10, gt=0, description="Seconds to connect.")
    outage: float = Field(
        default=600, ge=0, description="Seconds the server may be out of reach before the run ends."
    )
    send_urls: bool = Field(
        default=False, description="Leave http(s) URLs of images to the server instead of fetching them here."
    )
    max_image_side: int | None = Field(
        default=None,
        ge=16,
        description="Make larger images smaller, to this many pixels on the longer side.",
    )
    limit_name: Literal["max_tokens", "max_completion_tokens"] | None = Field(
        default=None,
        description="What the server calls the most new tokens; None: max_tokens, or the other where it is refused.",
    )
    extra_body: dict[str, Any] = Field(
        default_factory=dict, description="Further entries of every request, as this server knows them."
    )
    prepare_workers: int = Field(default=2, ge=1, description="Threads that decode and encode images.")

    @field_validator("base_url")
    @classmethod
    def _is_address(cls, value: str) -> str:
        value = value.strip()
        example = "give an http(s) URL, such as http://127.0.0.1:8000/v1 or http://[::1]:8000/v1"
        try:
            parts = urlsplit(value)
            has_host = bool(parts.hostname) and (parts.port is None or parts.port > 0)
        except ValueError as error:  # of brackets, or of the port
            raise ValueError(f"{example}: {error}") from error
        if parts.scheme not in ("http", "https") or not has_host:
            raise ValueError(example)
        if parts.username or parts.password:
            raise ValueError("a URL with a password ends up in outputs; name its variable in api_key_env")
        return urlunsplit(parts._replace(path=parts.path.rstrip("/"), fragment=""))

    @field_validator("extra_body")
    @classmethod
    def _is_no_stream(cls, value: dict[str, Any]) -> dict[str, Any]:
        if value.get("stream"):
            raise ValueError("answers are read whole: leave `stream` out")
        return value

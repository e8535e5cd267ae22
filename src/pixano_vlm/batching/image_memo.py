"""What a model's image processor made of each image, remembered by the image's content.

Knows no prompt and no model.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from pixano_vlm.batching.sequence import PreparedImage

DIGEST = "pixano_vlm_digest"
"""Where an opened image carries the digest of its file, in `Image.info`."""


class ImageProcessorMemo:
    """A model's image processor that remembers what it made of each image alone.

    Lives in the processor's `image_processor`, so that the processor's own code lays out the text. An image
    that several records ask about is processed once; a record with several images yields each of them alone
    as well, which is what the vision encoder's cache is keyed by.
    """

    def __init__(self, inner: Any, budget: int) -> None:
        self._inner = inner
        self._budget = budget
        self._kept: OrderedDict[tuple[bytes, str], Any] = OrderedDict()
        self._under_way: dict[tuple[bytes, str], threading.Lock] = {}
        self._nbytes = 0
        self._lock = threading.Lock()
        self._local = threading.local()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    @contextmanager
    def watch(self) -> Iterator[list[PreparedImage]]:
        """Collects the single images that this thread's next call processes."""
        seen: list[PreparedImage] = []
        self._local.images = seen
        try:
            yield seen
        finally:
            self._local.images = None

    def __call__(self, images: Any, *args: Any, **kwargs: Any) -> Any:
        """As the processor's own; remembers single images that carry a digest."""
        pictures, nested = _flatten(images)
        seen: list[PreparedImage] | None = getattr(self._local, "images", None)
        digests: list[bytes] = [
            picture.info[DIGEST]
            for picture in pictures
            if isinstance(picture, Image.Image) and DIGEST in picture.info
        ]
        if args or not pictures or len(digests) < len(pictures):
            return self._inner(images, *args, **kwargs)
        alone = [
            self._process(picture, digest, nested, kwargs)
            for picture, digest in zip(pictures, digests, strict=True)
        ]
        if seen is not None and all(isinstance(features, Mapping) for features in alone):
            # What is made of an image depends on the options, too: a budget of pixels is one.
            options = _options_key(kwargs).encode()
            seen.extend(
                PreparedImage(blake2b(digest + options, digest_size=16).digest(), dict(features))
                for digest, features in zip(digests, alone, strict=True)
            )
        if len(alone) > 1:
            return self._inner(images, **kwargs)
        (only,) = alone
        kind: Any = type(only)
        # A copy, for the processor takes entries out of what it is given.
        return kind(dict(only)) if isinstance(only, Mapping) else only

    def _process(self, picture: Image.Image, digest: bytes, nested: bool, kwargs: dict[str, Any]) -> Any:
        key = (digest, _options_key(kwargs))
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            turn = self._under_way.setdefault(key, threading.Lock())
        # Records about one image come one after the other, so several threads often want the same at once.
        with turn:
            with self._lock:
                if key in self._kept:
                    return self._kept[key]
            try:
                features = self._inner([[picture]] if nested else [picture], **kwargs)
                self._keep(key, features)
            finally:
                with self._lock:
                    self._under_way.pop(key, None)
        return features

    def _keep(self, key: tuple[bytes, str], features: Any) -> None:
        if not isinstance(features, Mapping):
            return  # bare pixels, whose name in the model's inputs only the processor knows
        nbytes = nbytes_of(features)
        with self._lock:
            if key not in self._kept and nbytes <= self._budget:
                self._kept[key] = features
                self._nbytes += nbytes
                while self._nbytes > self._budget:
                    self._nbytes -= nbytes_of(self._kept.popitem(last=False)[1])


def _options_key(kwargs: Mapping[str, Any]) -> str:
    """Equal for equal options of a call."""
    return repr(sorted(kwargs.items(), key=lambda item: item[0]))


def _flatten(images: Any) -> tuple[list[Any], bool]:
    """The images of a call, and whether they came nested, a list for each text."""
    if isinstance(images, (list, tuple)):
        nested = bool(images) and isinstance(images[0], (list, tuple))
        return [picture for item in images for picture in (item if nested else [item])], nested
    return [images], False


def nbytes_of(features: Any) -> int:
    """Memory that a mapping's tensors and arrays take."""
    return sum(
        value.nbytes if isinstance(value, np.ndarray) else value.numel() * value.element_size()
        for value in dict(features).values()
        if isinstance(value, (Tensor, np.ndarray))
    )

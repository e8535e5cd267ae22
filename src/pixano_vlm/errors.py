"""Every failure this package raises, as one tree, and the hint of those that end a run.

    PixanoVLMError
    ├── UsageError                  what was asked for cannot be done as asked        exit 2
    │   ├── ConfigError             a config file or parameter is wrong
    │   ├── UnknownModelError       no model or model class of that name
    │   ├── DuplicateModelError     the name is taken
    │   ├── PluginError             a plugin cannot be imported
    │   ├── ManifestError           the manifest as a whole cannot be read
    │   └── OutputError             the output exists, or cannot be opened
    ├── ModelLoadError              the model cannot be loaded                        exit 3
    │   └── MissingPackageError     ... because a package is missing or broken
    ├── RunError                    the run cannot continue (disk full, model gone)   exit 3
    └── VLMError                    one record failed: a result, never the run's end  exit 1
        ├── RecordError             its manifest line is wrong
        ├── ImageError              an image or video of it cannot be read or used
        ├── PromptError             its prompt does not fit the model
        └── GenerationError         the model failed on it

`message` says what is wrong; `hint`, where there is one, what to do next. The command line is the one place
that turns these into text and exit codes.
"""

from __future__ import annotations

__all__ = [
    "ConfigError",
    "DuplicateModelError",
    "GenerationError",
    "ImageError",
    "ManifestError",
    "MissingPackageError",
    "ModelLoadError",
    "OutputError",
    "PixanoVLMError",
    "PluginError",
    "PromptError",
    "RecordError",
    "RunError",
    "UnknownModelError",
    "UsageError",
    "VLMError",
]

RESUME = "Resume it: the same command with --resume."
"""The hint of a run that ended early, in one wording everywhere."""

_OUT_OF_MEMORY = ("DefaultCPUAllocator", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")
"""In the texts of the plain RuntimeErrors that torch raises for it."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception of any library says that memory ran out, on a GPU or on the CPU."""
    if isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__:
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _OUT_OF_MEMORY)


class PixanoVLMError(Exception):
    """Base of all failures of this package: `message` is what is wrong, `hint` what to do next (or `None`)."""

    exit_code = 3

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross process boundaries (workers, Ray actors); the default would drop the keyword argument.
        return (_rebuild, (type(self), self.message, self.hint))


def _rebuild(cls: type[PixanoVLMError], message: str, hint: str | None) -> PixanoVLMError:
    return cls(message, hint=hint)


class UsageError(PixanoVLMError):
    """What was asked for cannot be done as asked."""

    exit_code = 2


class ConfigError(UsageError):
    """A config file, an entry in it, or a model parameter is wrong."""


class UnknownModelError(UsageError):
    """No model, or no model class, is registered under the name."""


class DuplicateModelError(UsageError):
    """A second model or class claims a name that is taken."""


class PluginError(UsageError):
    """A plugin file or module cannot be imported."""


class ManifestError(UsageError):
    """The manifest as a whole cannot be read (a wrong line is a `RecordError`)."""


class OutputError(UsageError):
    """The output exists already, or cannot be opened for writing."""


class ModelLoadError(PixanoVLMError):
    """The model's files are missing, damaged, or not of a kind that can be run."""


class MissingPackageError(ModelLoadError):
    """Loading needs a package that is not installed, or whose version does not fit the others."""


class RunError(PixanoVLMError):
    """The run cannot continue; what was written so far is intact."""


class VLMError(PixanoVLMError):
    """One record failed. `stream` answers with it instead of a `VLMOutput`; the run continues."""

    exit_code = 1


class RecordError(VLMError):
    """A manifest line is not a usable record."""


class ImageError(VLMError):
    """An image or a video is missing, damaged, too large, or not allowed."""


class PromptError(VLMError):
    """A prompt does not fit the model: too long, placeholders that do not match the images, a bad role."""


class GenerationError(VLMError):
    """The model failed on this one record."""

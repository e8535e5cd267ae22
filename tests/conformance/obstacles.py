"""Why a type is not run: for each that no tiny checkpoint stands for, what exactly is in the way."""

OBSTACLES: dict[str, str] = {}

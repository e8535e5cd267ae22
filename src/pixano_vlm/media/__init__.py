"""A path, a URL or bytes -> pixels, within limits. Knows no record and imports no torch."""

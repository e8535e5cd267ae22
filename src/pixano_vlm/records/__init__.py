"""The types that both ends of a run share: a request, its result, its line, its key. Imports no torch."""

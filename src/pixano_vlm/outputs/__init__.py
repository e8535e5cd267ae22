"""Results -> files that survive being killed at any moment. Knows no manifest, no model and imports no torch."""

"""Continuous (in-flight) batching of one transformers model. Importing it imports torch; nothing light may."""

"""Answers that point -> regions in pixels of the image."""

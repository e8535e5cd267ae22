"""Benchmarks: programs that print figures. Nothing here is a test."""

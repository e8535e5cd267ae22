"""What other programs load to read outputs: the one place where such a program's own package is imported."""

"""Whatever was named on the command line -> requests. Knows no model, no output and imports no torch."""

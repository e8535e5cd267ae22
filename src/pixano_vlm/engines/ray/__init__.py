"""Any engine, on several workers of a Ray cluster. Imported only when its class is asked for."""

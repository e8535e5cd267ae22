"""vLLM, in process. Imported only when its class is asked for."""

"""Models behind servers that speak OpenAI's chat completions. Imported only when its class is asked for."""

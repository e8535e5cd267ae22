"""Ways to run a model, each a `VLMModel`. A module here is imported only when its class is asked for."""

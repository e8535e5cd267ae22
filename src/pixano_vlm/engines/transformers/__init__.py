"""Any Hugging Face image-text-to-text model, on continuous batching. Imported only when its class is asked for."""

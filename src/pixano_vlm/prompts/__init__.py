"""What a model is asked: chat messages, chat templates, the format of the answer. Knows no file."""

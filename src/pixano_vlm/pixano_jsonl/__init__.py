"""The folder that Pixano's exporter writes and its importer takes: JSONL, version 2. Imports nothing of Pixano."""

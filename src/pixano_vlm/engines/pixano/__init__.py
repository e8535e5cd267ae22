"""Models for the Pixano server, and its models here. Imported only when its class is asked for."""

"""Inputs, a model and outputs put together: one run, as a library call. Draws nothing on a screen."""

"""The HTTP half of the front door."""

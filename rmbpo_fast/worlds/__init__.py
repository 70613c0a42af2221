"""The real environment, as it is and with its physics changed."""

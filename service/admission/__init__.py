"""API keys, rates, and limits on the requests and bytes that are accepted at once."""

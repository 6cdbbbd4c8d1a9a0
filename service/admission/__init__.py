"""Who may send how much: API keys, rates, and how many requests and bytes are accepted at once."""

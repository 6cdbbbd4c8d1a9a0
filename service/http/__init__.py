"""What holds for every request: connections, headers, problems, other origins."""

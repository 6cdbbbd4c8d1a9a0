"""Image files to pixels, in processes with bounded time and memory."""

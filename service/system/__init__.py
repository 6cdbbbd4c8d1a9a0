"""Threads, processors, memory and standard streams of this process."""

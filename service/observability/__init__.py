"""Logs, metrics, traces and prediction drift."""

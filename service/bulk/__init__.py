"""Scores files without a server: finds and reads them, classifies them as the service does, writes rows."""

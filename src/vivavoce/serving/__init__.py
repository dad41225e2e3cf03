"""The server: one file per protocol, over the speech service."""

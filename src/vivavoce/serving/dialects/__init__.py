"""One file a protocol: its fields, its messages and its routes, and nothing about sound."""

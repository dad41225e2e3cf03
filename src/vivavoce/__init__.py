"""vivavoce: text-to-speech for live voice conversations."""
__version__ = "0.1.0"

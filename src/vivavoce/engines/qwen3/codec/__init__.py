"""The 12.5 Hz codec: 16 codes a frame to 1920 samples at 24 kHz, and back."""

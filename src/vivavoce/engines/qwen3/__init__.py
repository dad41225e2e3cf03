"""Qwen3-TTS: from text to codes, one frame of 80 ms of all rows at a time, and to sound."""

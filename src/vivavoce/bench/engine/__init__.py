"""How fast the Qwen3-TTS engine itself is on a device, part by part, with random weights.

``parts`` names the parts and puts what they tell into one file; each runs by itself.
"""

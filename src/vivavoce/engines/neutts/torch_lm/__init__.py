"""NeuTTS backbones as PyTorch models, from checkpoints in the Hugging Face layout.

Needs the extra ``neutts-torch``. Nothing heavy is imported here.
"""

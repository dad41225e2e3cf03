"""NeuTTS backbones in GGUF files, run by llama.cpp. Nothing heavy is imported here."""

"""The parts of the codec's encoders that others have published, against transformers."""

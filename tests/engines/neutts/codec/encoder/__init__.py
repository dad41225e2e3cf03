"""NeuCodec's encoders on tiny random weights."""

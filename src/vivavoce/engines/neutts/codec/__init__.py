"""NeuCodec: 50 codes a second from and to sound.

Published by Neuphonic as ``neucodec`` and ``distill-neucodec`` (their decoders are one network).
A code is one of 65,536 and becomes 480 samples at 24 kHz.
"""

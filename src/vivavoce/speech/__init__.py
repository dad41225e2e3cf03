"""The service everybody calls: admission, voices, cache and the way from text to sound."""

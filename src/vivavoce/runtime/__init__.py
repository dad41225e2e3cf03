"""What engines share and that knows none of them: the libraries they compute with."""

"""Reading and writing what models are published in, shared by the engines. Needs no torch."""

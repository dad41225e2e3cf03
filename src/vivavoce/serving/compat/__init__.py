"""Servers that people move over from: what differs between their clients' words and ours.

``vivavoce serve --compat NAME`` is one of them to its old clients. A server is a table of settings
for what nobody has set (``presets.py``), what it makes of a request (``OldServer.fields``), and how
it words an answer; two layers around the application (``layers.py``) do the rest, and no route
knows of it.
"""

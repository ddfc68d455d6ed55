"""Servers and clients that the tests start for themselves, on 127.0.0.1 and free ports."""

"""Uploads: what a worker makes of its pseudo-gradient before it sends it, with the bytes of the encoded message.

Each is a pair of an optax transform, which returns what the server decodes, and of its size; `local_sgd` takes both.
"""

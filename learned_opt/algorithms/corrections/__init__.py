"""Corrections of the workers' gradients, against the drift of workers whose data differ.

They belong to heterogeneous data; on equal data they cost memory and communication and correct nothing.
"""

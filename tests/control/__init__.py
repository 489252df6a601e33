"""
Talking with a node that runs.
"""

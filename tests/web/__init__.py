"""
The status page of a node.
"""

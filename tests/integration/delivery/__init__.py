"""
Programs that `delivery_check` runs as nodes.
"""

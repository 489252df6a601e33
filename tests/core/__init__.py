"""The core's tests: values in, values out, and time turned by hand."""

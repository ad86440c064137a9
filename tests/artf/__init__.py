"""ARTF as its hosts speak it: the official runtime, and bytes that it would not write."""

"""The gRPC service: quotes come in, an engine calibrates what changed, a hub hands surfaces out.

`calib.service.server.serve` runs it; the event loop takes messages and never computes.
"""

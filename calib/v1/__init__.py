"""The messages and services of the `calib.v1` protocol, generated from `protos/calib/v1`.

`make protos` rewrites everything here but this file; nothing is edited by hand.
"""

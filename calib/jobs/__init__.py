"""Work over a history of quotes, started by a person or a schedule rather than by the market.

What runs here is the loop of the live engine, slices → fit → certify → assess, over chains that are
all there already.
"""

"""The parts of the market simulator: the Bates model and its prices, what a venue lists, how spot
and variance move, and how a dealer quotes what an option is truly worth."""

"""Where quotes come from: recordings and their replay, the packaged sample, simulated markets.

Everything here ends in quote tables; nothing here fits or publishes."""

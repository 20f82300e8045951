"""Deribit's public options market as a feed: chains over REST, updates over a WebSocket.

The forms of its messages are those of its documentation (Deribit API v2: JSON-RPC 2.0, channels
``ticker.{instrument}.{interval}``, ``public/set_heartbeat``). It is an ordinary client of the
service: what it makes are quote tables and ticks.
"""

from calib.feeds.deribit.feed import DeribitFeed as DeribitFeed
from calib.feeds.deribit.feed import DeribitSettings as DeribitSettings
from calib.feeds.deribit.feed import FeedCounts as FeedCounts

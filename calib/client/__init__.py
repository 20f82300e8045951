"""The quoting engine's side of the service: surfaces as they change, quotes on their way in.

Needs neither jax nor pandas: surfaces are evaluated in plain numpy.
"""

from calib.client.blocking import BlockingClient as BlockingClient
from calib.client.blocking import BlockingPublisher as BlockingPublisher
from calib.client.blocking import connect_blocking as connect_blocking
from calib.client.client import Client as Client
from calib.client.client import connect as connect
from calib.client.credentials import Credentials as Credentials
from calib.client.publisher import Acknowledgement as Acknowledgement
from calib.client.publisher import Lag as Lag
from calib.client.publisher import Posted as Posted
from calib.client.publisher import Publisher as Publisher
from calib.client.quotes import QuoteUpdate as QuoteUpdate
from calib.client.risk import ExpiryRisk as ExpiryRisk
from calib.client.risk import ModelRisk as ModelRisk
from calib.client.update import StaleCause as StaleCause
from calib.client.update import SurfaceUpdate as SurfaceUpdate

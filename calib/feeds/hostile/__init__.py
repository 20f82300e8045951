"""Hostile markets: faults put into quote tables, simulated or recorded, with causes on record.

A fault is a value that says what happens to which quotes from when to when. To put it into a table
is a pure function that keeps the rows and their order."""

from calib.feeds.hostile.fault import Fault as Fault
from calib.feeds.hostile.fault import FaultName as FaultName
from calib.feeds.hostile.market import HostileMarket as HostileMarket
from calib.feeds.hostile.market import hostile as hostile

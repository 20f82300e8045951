"""The command line: one thin command a file over the public rooms of the library.

Commands import what they need when they run, so that ``calib --help`` answers at once.
"""

from calib.cli.app import main as main

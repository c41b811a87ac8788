"""Local servers for tests of downloads: the Hub's protocol, and plain files. Both can be told to go wrong."""

from servers.files import FileServer
from servers.hub import STRANGER, TOKEN, HubServer, Repo
from servers.local import Fault, Logged

__all__ = ["STRANGER", "TOKEN", "Fault", "FileServer", "HubServer", "Logged", "Repo"]

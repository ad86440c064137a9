"""The engines that speak HTTP/2's frames: all that are there."""

from rtb.server.http2.hyper import HyperSession
from rtb.server.http2.session import NewSession, new_session_of

ENGINES: tuple[NewSession, ...] = tuple(dict.fromkeys((HyperSession, new_session_of())))

"""Taps and links: what is read in two networks, and how it is compared."""

from mmrecast.links.link import Link, build_link
from mmrecast.links.spec import LinkSpec
from mmrecast.links.taps import LOGITS, Reader, Tap, parse_taps

__all__ = ['LOGITS', 'Link', 'LinkSpec', 'Reader', 'Tap', 'build_link', 'parse_taps']

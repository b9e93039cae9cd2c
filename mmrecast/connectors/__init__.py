"""Connectors: trainable modules between a tap and a loss."""

from mmrecast.connectors.conv_module import ConvModuleConnector

__all__ = ['ConvModuleConnector']

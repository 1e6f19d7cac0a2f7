"""Defines the version of the package: a release, or `.dev0` of the next one."""

__version__ = "0.2.0.dev0"

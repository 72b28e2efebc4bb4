"""Installs both Python packages with pip; everything is declared in setup.cfg."""

from setuptools import setup

setup()

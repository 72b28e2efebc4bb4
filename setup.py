"""Install both Python packages with pip; setup.cfg declares everything."""

from setuptools import setup

setup()

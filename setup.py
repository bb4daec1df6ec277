"""The part of pyproject.toml that it cannot say: conf/ becomes lymphoml/conf in a wheel."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["lymphoml*"]), "lymphoml.conf", "hydra_plugins"],
    package_dir={"lymphoml.conf": "conf"},
)

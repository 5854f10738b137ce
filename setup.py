"""What setup.cfg cannot say: the bundle and the manifests of data sets lie inside the package once it is installed."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["pipeline*", "unipet"]), "pipeline.bundle", "pipeline.data_manifests"],
    package_dir={"pipeline.bundle": "bundles/unipet_3d", "pipeline.data_manifests": "data_manifests"},
)
